"""Every command and every example in the README and in `docs/` works, its links lead somewhere, and the README stays short."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, enter_copy, run_in
from launch import ROOT, TINY_STUDY

from data_utils.cli import execute
from data_utils.words import DICTIONARY_NAME

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("several-machines.md",)
"""Pages whose commands another test runs, with a server and a cluster."""

SMALL = ("epochs=2", "trials=4", "repeats=1", "width=16", "ffn_width=16", "layers=1")
FASTER = {
    "run": ("--trials", "4", "--workers", "1", *(word for small in SMALL for word in ("--set", small))),
    "confirm": ("--top", "1", "--seeds", "2"),
    "dashboard": ("--print-command",),
    "synth": ("--clips", "24", "--signs", "3", "--signers", "3"),
}
"""Arguments that come after those of a page, so that a command takes less time."""

TODO = re.compile(r"^    (?:\$ )?((?:islr-search|islr-data) .*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def page_name(page: Path) -> str:
    return page.name


def commands(page: Path) -> list[str]:
    """The commands of a page's indented blocks, without their comments."""
    found = TODO.findall(page.read_text(encoding="utf-8"))
    return [re.sub(r"\s+# .*", "", line) for line in found]


@pytest.fixture(scope="module")
def workshop(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: data sets, a study file, and a study `letters` that is confirmed. Read-only.

    The data set `mine` has one signer.
    """
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "letters.yaml").write_text(TINY_STUDY, encoding="utf-8")
    shutil.copytree(tiny, folder / "letters")
    for file, signer in zip(sorted((folder / "letters").glob("*.hdf5")), ("ssp", "svk", "swl", "tsm"), strict=True):
        file.rename(file.with_stem(signer))
    shutil.copy(folder / "letters" / "ssp.hdf5", folder / "letters" / "ase.hdf5")
    (folder / "mine").mkdir()
    for name in ("ssp.hdf5", DICTIONARY_NAME):
        shutil.copy(folder / "letters" / name, folder / "mine")
    for name in ("other", "letters"):
        run_in(folder, "run", "letters.yaml", "--data", "letters", "--as", name, *FASTER["run"])
    run_in(folder, "confirm", "letters", *FASTER["confirm"])
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=page_name)
def test_the_commands_of_a_page(
    page: Path, workshop: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From top to bottom, in one folder; importing and setting up have tests of their own, and are only parsed."""
    place = enter_copy(workshop, tmp_path / "place", monkeypatch)
    monkeypatch.setenv("SEARCH_DATA", "letters")
    if page.name == "README.md":
        shutil.rmtree(place / "runs")  # it starts from nothing
    for line in commands(page):
        program, *words = shlex.split(os.path.expandvars(line))
        if program == "islr-data":
            code = execute(
                [*words, "--help"] if words[0].startswith(("import", "setup")) else [*words, *FASTER.get(words[0], ())]
            )
            assert code == 0, (line, capsys.readouterr().err)
            continue
        done = cli(*words, *FASTER.get(words[0], ()))
        assert done.code == 0, (line, done.err)


PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_examples_in_python(workshop: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's blocks run one after the other."""
    import search.api

    enter_copy(workshop, tmp_path / "place", monkeypatch)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").split("\n## Below")[0]
    real = search.api.define

    def quick(study: Any, **options: Any) -> search.api.Study:
        """The same study, but short."""
        return real(study, **{"changes": SMALL, **options})

    monkeypatch.setattr(search.api, "define", quick)
    names: dict[str, Any] = {}
    for block in PYTHON.findall(text):
        exec(compile(block, "python.md", "exec"), names)
    assert names["plain"].study_name == "rates"
    assert Path("rates.yaml").exists()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.ja.md", ROOT / "CONTRIBUTING.md"], ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the project names a file, and a heading of it."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not part or part in anchors(target), link


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings."""
    heads = [line.lstrip("# ").lower() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return [re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads]


def test_the_readme_is_short() -> None:
    """A newcomer reads it in minutes; the rest is in `docs/`, which it links."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(LINK.findall(text))


def test_every_command_has_a_row() -> None:
    """The table of commands is complete."""
    from search.cli import app

    table = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"\n| `{command.name}" in table, command.name


def test_the_default_study_is_shown_as_it_is() -> None:
    """The study file on its page is the installed one."""
    study = (ROOT / "studies" / "label_smoothing.yaml").read_text(encoding="utf-8").rstrip()
    assert study in (ROOT / "docs" / "study-files.md").read_text(encoding="utf-8")
