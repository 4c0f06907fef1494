"""Commands that report on a study or on this machine: report, dashboard, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.commands import options as opt
from search.commands.output import write_output
from search.commands.studies import chosen_study, open_study
from search.commands.waiting import doing
from search.errors import DefinitionError, ExitCode


def report(
    study: opt.Study = None,
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="A second study, to show both side by side.", show_default=False)
    ] = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write. [default: RUNS/STUDY/report.html, or RUNS/STUDY-vs-OTHER.html for two]"
        ),
    ] = None,
) -> None:
    """Write one HTML file with all results. It opens without a network. Of two studies: what differs, what each found."""
    from search.commands.console import print_note
    from search.reporting.facts import Facts
    from search.reporting.report import comparison_html, report_html
    from search.study.claiming import folder_to_write

    opened, opened_storage = open_study(study, storage)
    if other is None:
        doing("drawing the report")
        target = output or folder_to_write(runs, opened, storage) / "report.html"
        text = report_html(Facts(opened, opened_storage, url=storage, runs=runs))
    else:
        second, second_storage = open_study(other, storage)
        if second.study_name == opened.study_name:
            hint = "name two studies; `islr-search list` shows them"
            raise DefinitionError("a study cannot be compared with itself", got=f"`{opened.study_name}` twice", hint=hint)
        doing("drawing the comparison")
        target = output or runs / f"{opened.study_name}-vs-{second.study_name}.html"
        both = [Facts(one, its, url=storage, runs=runs) for one, its in ((opened, opened_storage), (second, second_storage))]
        text = comparison_html(*both)
    write_output(text, target)
    print_note(f"wrote {target} ({len(text.encode()) / 1e6:.1f} MB)")


def dashboard(
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="Address to listen on. Anyone who can reach it has access: there is no password."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port, or the next free one if it is taken.")] = 8080,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Fill the page, print the command that serves it, and exit.")
    ] = False,
) -> int:
    """Serve the study with optuna-dashboard. Its page is filled with notes, plots and files first."""
    from search.commands.console import print_note, print_result
    from search.reporting.dashboard.background import PageFiller
    from search.reporting.dashboard.serve import address, free_port, plain_command, serve
    from search.storage.opening import open_storage
    from search.storage.read_only import open_read_only
    from search.storage.sqlite import is_writable
    from search.storage.url import parse_url
    from search.study.artifacts import artifact_folder
    from search.study.identity import require_complete
    from search.study.study import load_study

    name = chosen_study(study, storage)
    doing("reading the study")
    place = parse_url(storage).path
    may_write = place is None or not place.exists() or is_writable(place)
    opened = open_storage(storage, create=False) if may_write else open_read_only(storage, curves=True)
    shown = load_study(opened, name, print_note)
    require_complete(shown)
    if not may_write:
        print_note(f"{place} may only be read: the page is shown as it was last filled")
    filler = PageFiller(shown, opened, url=storage, runs=runs, notify=print_note)
    artifacts = artifact_folder(runs)
    if print_command:
        if may_write:
            doing("filling the study's page")
            filler.fill_once()
        print_result(plain_command(storage, host, port, artifacts))
        if host == "127.0.0.1":
            print_note(f"to view it from another machine, run there: ssh -L {port}:{host}:{port} HOST")
        return ExitCode.DONE
    free = free_port(host, port)

    def begin() -> None:
        print_note(f"optuna-dashboard on {address(host, free, shown._study_id)}  (stop with Ctrl-C)")
        if may_write:
            filler.start()

    try:
        serve(opened, host, free, begin, artifacts)
    except KeyboardInterrupt:
        print_note("")
    finally:
        filler.stop()
    return ExitCode.INTERRUPTED


def doctor(
    data: opt.Data = None, storage: opt.Storage = opt.STORAGE, runs: opt.Runs = opt.RUNS, as_json: opt.AsJson = False
) -> int:
    """Check the machine, packages, storage, study files and data."""
    from search.commands.console import print_result
    from search.reporting.doctor import checks

    doing("checking")
    wrong = 0
    for check in checks(storage=storage, runs=runs, data=data):
        wrong += check.verdict == "wrong"
        if as_json:
            print_result({"check": check.name, "verdict": check.verdict, "text": check.text})
        else:
            print_result(f"{check.verdict:5}  {check.name:24}  {check.text.replace(chr(10), chr(10) + ' ' * 33)}")
        doing("checking")
    if not as_json:
        print_result(f"{wrong} wrong" if wrong else "no problems found")
    return ExitCode.NO if wrong else ExitCode.DONE
