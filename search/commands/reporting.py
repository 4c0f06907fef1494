"""Commands to look at: report, dashboard, the state of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.commands.options import RUNS, STORAGE, STUDY, AsJson, Data, Runs, Storage, Study
from search.commands.output import write_out
from search.commands.studies import study_and_storage
from search.errors import ExitCode


def report(
    study: Study = STUDY,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. [default: RUNS/STUDY/report.html]")
    ] = None,
) -> None:
    """One HTML file with everything that a study says; it opens without a network."""
    from search.commands.console import talk
    from search.reporting.facts import Facts
    from search.reporting.report import report_html
    from search.storage.read_only import open_read_only

    opened, held = study_and_storage(study, storage, open_read_only)
    facts = Facts(opened, held, url=storage, runs=runs)
    target = output or runs / opened.study_name / "report.html"
    text = report_html(facts)
    write_out(text, target)
    talk(f"wrote {target} ({len(text.encode()) / 1e6:.1f} MB)")


def dashboard(
    study: Study = STUDY,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no password: keep it local.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port; the next free one if it is taken.")] = 8080,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Fill the page, and say how to serve it by hand.")
    ] = False,
) -> int:
    """Fill the study's page with notes, plots and files, and start optuna-dashboard on it."""
    from search.commands.console import say, talk
    from search.definition.study_file import study_name
    from search.reporting.dashboard.background import Filler
    from search.reporting.dashboard.serve import address, artifact_folder, free_port, plain_command, serve
    from search.storage.opening import open_storage
    from search.study.identity import require_whole
    from search.study.study import load_study

    opened = open_storage(storage, create=False)
    shown = load_study(opened, study_name(study))
    require_whole(shown)
    filler = Filler(shown, opened, url=storage, runs=runs, tell=talk)
    artifacts = artifact_folder(runs)
    if print_command:
        filler.once()
        say(plain_command(storage, host, port, artifacts))
        if host == "127.0.0.1":
            talk(f"to look at it from another machine, there: ssh -L {port}:{host}:{port} HOST")
        return ExitCode.DONE
    chosen = free_port(host, port)

    def begin() -> None:
        talk(f"optuna-dashboard on {address(host, chosen)}  (Ctrl-C ends it)")
        filler.start()

    try:
        serve(opened, host, chosen, begin, artifacts)
    except KeyboardInterrupt:
        talk("")
    finally:
        filler.end()
    return ExitCode.INTERRUPTED


def doctor(
    data: Data = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Check machine, packages, storage, study files and data."""
    from search.commands.console import say, say_json
    from search.reporting.doctor import checks

    wrong = 0
    for check in checks(storage=storage, runs=runs, data=data):
        wrong += check.verdict == "wrong"
        if as_json:
            say_json({"check": check.name, "verdict": check.verdict, "text": check.text})
        else:
            say(f"{check.verdict:5}  {check.name:24}  {check.text.replace(chr(10), chr(10) + ' ' * 33)}")
    if not as_json:
        say(f"{wrong} wrong" if wrong else "all is well")
    return ExitCode.NO if wrong else ExitCode.DONE
