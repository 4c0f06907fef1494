"""The included studies run, and `studies/README.md` is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli
from launch import ROOT, stored_trials

from search.definition import keys
from search.definition.settings import settings
from search.definition.study_file import load_definition

SHIPPED = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))
SMALL = ["width=16", "ffn_width=16", "layers=1", "heads=2"]
OWN = {  # what a demo set of four signers needs, and what makes a study small
    "article": ["data.validation=[9001]", "repeats=2", *SMALL],
    "architecture": ["warmup_epochs=1", "sampler.population=2"],
    "folds": ["data.folds=4", "data.test=none", "pruner.p=0.3", "pruner.startup=2", *SMALL],
}


def test_the_included_studies() -> None:
    """The package includes these studies."""
    assert SHIPPED == ["architecture", "article", "augmentation", "folds", "label_smoothing", "quick"]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_study_runs(name: str, place: Path, tiny: Path, cli: Cli) -> None:
    """Each study runs in a tiny form: few epochs and a small model, but its own space, sampler, pruner and split."""
    sets = [word for one in [*OWN.get(name, SMALL), "epochs=2"] for word in ("--set", one)]
    done = cli("run", name, "--data", tiny, "--trials", 4, *sets)
    assert done.code == 0, done.err
    trials = stored_trials(place, name)
    assert [trial.state.name in ("COMPLETE", "PRUNED") for trial in trials] == [True] * 4
    assert trials[0].params == load_definition(name).baseline
    assert cli("export", name).code == 0


def test_the_article_study() -> None:
    """It compares the article's four values only, with its initial weights and several seeds each, as a grid."""
    definition = load_definition("article")
    (dim,) = definition.space
    assert dim.values() == [0.0, 0.1, 0.3, 0.5]
    assert definition.repeats >= 5
    configs = definition.configs({"label_smoothing": 0.3})
    assert (configs.model.init, configs.preprocess.mask) == ("reference", "detected")
    assert (configs.train.lr, configs.train.epochs, configs.train.batch_size, configs.model.dropout) == (3e-4, 50, 32, 0.1)
    assert (configs.train.patience, configs.augment.is_off) == (0, True)


def test_the_page_of_keys() -> None:
    """`studies/README.md` is what `python -m search.definition.keys` prints."""
    page = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    assert page == keys.page(), "regenerate it: python -m search.definition.keys > studies/README.md"


def test_an_installed_package_has_the_template() -> None:
    """The template of the page is in the package."""
    assert (ROOT / "search" / "definition" / "templates" / "keys.md").is_file()


def test_the_page_lists_every_key() -> None:
    """The page lists each setting with its values, default and meaning."""
    page = keys.page()
    for key, setting in settings().items():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{key}` |")]
        assert len(rows) == 1, key
        cells = [cell.strip() for cell in rows[0].strip("|").replace("\\|", "/").split("|")]
        assert cells[2] == (str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default))
        assert cells[1], f"{key} has no values"
        assert len(cells[4]) > 10, f"{key} has no meaning"


def test_the_example_study_loads(place: Path) -> None:
    """The example on the page is a valid study."""
    text = keys.page().split("```yaml\n")[1].split("```")[0]
    Path("wide.yaml").write_text(text, encoding="utf-8")
    assert len(load_definition("wide.yaml").space) == 5
