"""Commands that manage studies: stop, delete, rename."""

from __future__ import annotations

from typing import Annotated

import typer

from data_utils.wording import counted
from search.commands import options as opt
from search.commands.studies import chosen_study
from search.commands.waiting import doing
from search.errors import DefinitionError, ResourceError

_Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without this option, only show what would be done, and exit with 2.")]


def stop(
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they have ended.")] = True,
) -> None:
    """Stop all runs of a study, here and on other machines. They end as after their first Ctrl-C: everything is kept."""
    from search.commands.console import print_note, print_result
    from search.study.stopping import ask_to_stop, wait_for_end

    name = chosen_study(study, storage)
    asked = ask_to_stop(name, storage, print_note)
    runs = counted(sum(map(len, asked.values())), "run")
    if not asked:
        print_result(f"no run is working on `{name}`")
        return
    print_result(f"{runs} of `{name}` asked to stop after the epoch in progress")
    if not wait:
        return
    doing("waiting for the end of the epoch")
    others = wait_for_end(asked, storage)
    print_result(f"{runs} ended; everything is kept")
    if others:
        print_note(
            f"{counted(others, 'run')} of `{name}` that came later {'works' if others == 1 else 'work'} on: "
            f"`islr-search stop {name}` stops {'it' if others == 1 else 'them'} too"
        )


def delete(study: opt.NamedStudy, storage: opt.Storage = opt.STORAGE, runs: opt.Runs = opt.RUNS, yes: _Yes = False) -> None:
    """Delete a study with its confirmation and files. That its test signers were opened stays on record."""
    from search.commands.console import print_note, print_result
    from search.definition.study_file import study_name
    from search.study.managing import belongings, delete_study

    name = study_name(study)
    problems: list[str] = []
    if yes:
        found, problems = delete_study(name, storage, runs, print_note)
    else:
        found = belongings(name, storage, runs, print_note)
    print_result(*(f"{'deleted' if yes else 'to delete'}: {line}" for line in found.lines()))
    if yes and not problems and found.folders and found.folders[-1].exists():
        print_result(f"kept: {found.folders[-1]}, which holds other files too")
    print_result(*(f"kept: {line}" for line in found.kept()))
    if not yes:
        raise DefinitionError("nothing was deleted", hint="`--yes` deletes this for good; `islr-search copy` keeps a copy")
    if problems:
        hint = "the rest is deleted; delete these yourself"
        raise ResourceError("some files could not be deleted", where=str(runs), got="\n     ".join(problems[:5]), hint=hint)


def rename(
    study: opt.NamedStudy,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    yes: _Yes = False,
) -> None:
    """Give a study a new name, and its confirmation and folder too."""
    from search.commands.console import print_note, print_result
    from search.definition.study_file import study_name, validate_name
    from search.study.managing import belongings
    from search.study.managing import rename as rename_study

    name, new = study_name(study), validate_name(new)
    if not yes:
        found = belongings(name, storage, runs, print_note)
        print_result(*(f"to rename: {line}" for line in found.lines()))
        raise DefinitionError("nothing was renamed", hint=f"`--yes` renames this to `{new}`")
    folder = rename_study(name, new, storage, runs, print_note)
    print_result(f"renamed: study `{name}` is `{new}` now; its files are in {folder}")
    print_note(f"a study file of another name continues it with: islr-search run FILE --as {new}")
