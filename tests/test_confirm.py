"""`confirm` trains the best and the baseline with fresh seeds; interruptions do not change the result."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import sqlite3
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import Cli
from launch import CONFIRM, Answer, start_cli, stored_trials, wait_until
from optuna.trial import FrozenTrial
from scipy import stats

from search.definition.trial_attributes import attribute
from search.study.confirmed import Confirmed, load_confirmed
from search.study.folder import trial_folder
from search.trial.files import read_rows
from search.trial.job import fresh_seed, trial_seed
from search.trial.outcome import SignerScore


def main_study(folder: Path, name: str = "tiny") -> optuna.Study:
    """A study, read with Optuna alone."""
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'runs' / 'studies.db'}")


def kept_by(folder: Path, name: str = "tiny") -> Confirmed:
    """The confirmation that is stored with its study."""
    kept = load_confirmed(main_study(folder, name))
    assert kept is not None
    return kept


def trainings(folder: Path, name: str = "tiny") -> list[FrozenTrial]:
    """The trainings of a confirmation."""
    return stored_trials(folder, f"{name}/confirm")


def events(done: Answer) -> list[dict[str, object]]:
    """What `--json` wrote."""
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_same_fresh_seeds_for_all(confirmed: Path) -> None:
    """Every setting trains with the same seeds, and no trial of the search had one of them."""
    ones = trainings(confirmed)
    seeds = {number: fresh_seed(0, number) for number in (1, 2, 3, 4, 5)}
    assert seeds == {number: np.random.SeedSequence([0, 2, number]).generate_state(1)[0] for number in seeds}
    assert {one.user_attrs["seed"] for one in ones} <= set(seeds.values())
    assert all(one.user_attrs["seed"] == seeds[one.params["seed"]] for one in ones)
    assert not set(seeds.values()) & {trial_seed(0, number) for number in range(1000)}
    search = main_study(confirmed).get_trials()
    for one in ones:
        assert attribute(one, "settings") == attribute(search[one.params["candidate"]], "settings")


def test_who_is_confirmed(confirmed: Path) -> None:
    """Two trials believed to be the lowest compete; the best one and the baseline are measured with the last seeds."""
    kept = kept_by(confirmed).found
    assert kept.trainings == len(trainings(confirmed)) <= 15
    assert [row.trial for row in kept.rows][-1] == 0
    assert len(kept.rows) == 3
    assert (kept.seeds, kept.choosing) == (5, 2)
    measured = {row.trial for row in kept.rows if row.measured}
    assert measured >= {0, kept.recommended}
    assert all((None not in row.values[2:]) == row.measured for row in kept.rows)
    assert kept.recommended == kept.tied[0]


def test_numbers_of_the_table(confirmed: Path, cli: Cli) -> None:
    """Means, spreads, intervals and probabilities are those of the stored trainings, computed another way."""
    done = cli(*CONFIRM, "--json")
    assert done.code == 0
    last = events(done)[-1]
    assert last["event"] == "confirm_finished"
    kept = kept_by(confirmed)
    assert last["confirmed"] == json.loads(json.dumps(dataclasses.asdict(kept)))
    measured = {row.trial for row in kept.found.rows if row.measured}
    values = {row.trial: [] for row in kept.found.rows}
    for one in sorted(trainings(confirmed), key=lambda one: one.params["seed"]):
        if one.params["seed"] > 2 or one.params["candidate"] not in measured:
            values[one.params["candidate"]].append(one.value)
    base = values[0]
    for row in kept.found.rows:
        if not row.measured:
            continue
        mine = values[row.trial]
        assert row.mean == pytest.approx(statistics.fmean(mine))
        assert row.optimism == pytest.approx(row.mean - main_study(confirmed).get_trials()[row.trial].value)
        low, high = stats.t.interval(0.95, len(mine) - 1, statistics.fmean(mine), stats.sem(mine))
        assert (row.low, row.high) == pytest.approx((low, high))
        if row.trial:
            test = stats.ttest_rel(mine, base[: len(mine)], alternative="less")
            assert row.better == pytest.approx(1 - test.pvalue)


def test_again(confirmed: Path, cli: Cli) -> None:
    """The same command trains nothing again and gives the same result; more seeds only add trainings."""
    before = kept_by(confirmed).found
    assert cli(*CONFIRM).code == 0
    assert kept_by(confirmed).found == before
    assert len(trainings(confirmed)) == before.trainings
    assert cli("confirm", "tiny", "--top", "2", "--seeds", "6").code == 0
    after = kept_by(confirmed).found
    assert after.trainings > before.trainings
    shared = {row.trial: row.values for row in before.rows}
    assert all(old in (None, new) for row in after.rows for old, new in zip(shared[row.trial], row.values, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "kills"), [(1, ((1, signal.SIGKILL), (3, signal.SIGKILL))), (2, ((2, signal.SIGKILL), (4, signal.SIGTERM)))]
)
def test_killed_anywhere(
    workers: int,
    kills: tuple[tuple[int, signal.Signals], ...],
    searched_copy: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A confirmation that is killed repeatedly ends with the result of an uninterrupted one."""
    command = ("confirm", "tiny", "--top", "2", "--seeds", "6", "--workers", str(workers))
    uninterrupted = tmp_path / "uninterrupted"
    shutil.copytree(searched_copy, uninterrupted)
    in_time = 0  # on a busy machine a confirmation may end before it is killed
    for number, how in kills:
        process = start_cli(*command, cwd=searched_copy)
        has_begun = is_in_companion(searched_copy, number)
        wait_until(lambda: has_begun() or process.poll() is not None, process)  # noqa: B023  # called at once
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 143 if how == signal.SIGTERM else -9), err
        in_time += process.returncode != 0
    assert in_time
    assert cli(*command).code == 0
    monkeypatch.chdir(uninterrupted)
    assert cli(*command).code == 0
    assert kept_by(searched_copy).found == kept_by(uninterrupted).found
    assert sorted(map(outcome, trainings(searched_copy))) == sorted(map(outcome, trainings(uninterrupted)))


def outcome(trial: FrozenTrial) -> tuple[object, ...]:
    """What must be equal."""
    return (trial.params["candidate"], trial.params["seed"], trial.state.name, trial.values, trial.intermediate_values)


def is_in_companion(folder: Path, number: int) -> Callable[[], bool]:
    """Whether that training of the confirmation has begun."""

    def answer() -> bool:
        try:
            return len(trainings(folder)) > number
        except KeyError:
            return False

    return answer


def test_folds_depend_on_the_seed(place: Path, tiny: Path, cli: Cli) -> None:
    """With folds each seed has folds of its own, the same for all that are compared."""
    folds = ("--set", "data.folds=2", "--set", "data.test=none")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 3, *folds).code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 4).code == 0
    dealt: dict[int, set[tuple[tuple[int, str], ...]]] = {}
    for one in trainings(place):
        rows = read_rows(SignerScore, trial_folder(Path("runs/tiny/confirm"), one.number) / "signers.csv")
        dealt.setdefault(one.params["seed"], set()).add(tuple((row.training, row.signer) for row in rows))
    assert all(len(of_seed) == 1 for of_seed in dealt.values())
    assert len(set.union(*dealt.values())) > 1


def test_a_training_that_fails(place: Path, tiny: Path, cli: Cli) -> None:
    """A candidate that diverges with a fresh seed is out, and the table says so."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 4).code == 0
    study = main_study(place)
    best = min((t for t in study.get_trials() if t.number), key=lambda t: t.value or 0)
    settings = json.loads(attribute(best, "settings"))
    settings["train"]["lr"] = 1e30  # it did well by luck, and diverges with every other seed
    with sqlite3.connect("runs/studies.db") as database:
        text = json.dumps(json.dumps(settings))
        change = "UPDATE trial_system_attributes SET value_json = ? WHERE trial_id = ? AND key = 'islr:settings'"
        assert database.execute(change, (text, best._trial_id)).rowcount == 1
    done = cli("confirm", "tiny", "--top", 2, "--seeds", 3)
    assert done.code == 0
    kept = kept_by(place).found
    row = next(row for row in kept.rows if row.trial == best.number)
    assert (len(row.failed) > 0, row.mean, row.measured) == (True, None, False)
    assert f"trial {best.number} failed with seed {row.failed[0]}" in " ".join(done.out.split())
    assert "the training loss became" in " ".join(done.out.split())
    assert kept.recommended not in (best.number, None)
    assert sum(one.params["candidate"] == best.number for one in trainings(place)) == len(row.failed)


def test_failures_of_the_machine_are_retried(confirmed: Path, cli: Cli) -> None:
    """A training whose worker ran out of memory is retried by the next command, which completes the result."""
    before = kept_by(confirmed).found
    with sqlite3.connect("runs/studies.db") as database:
        (study,) = database.execute("SELECT study_id FROM studies WHERE study_name = 'tiny/confirm'").fetchone()
        trials = [
            row[0] for row in database.execute("SELECT trial_id FROM trials WHERE study_id = ? ORDER BY number", (study,))
        ]
        for trial in trials[-2:]:
            database.execute("UPDATE trials SET state = 'FAIL' WHERE trial_id = ?", (trial,))
            attribute = (trial, "reason", json.dumps("out of memory: it was killed"))
            database.execute("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)", attribute)
    assert cli(*CONFIRM).code == 0
    assert kept_by(confirmed).found == before
    assert len(trainings(confirmed)) == before.trainings + 2


def test_a_study_of_the_first_version(searched_copy: Path, cli: Cli) -> None:
    """A study without a stored space, objectives or plan is confirmed and analyzed all the same."""
    with sqlite3.connect("runs/studies.db") as database:
        database.execute("DELETE FROM study_user_attributes WHERE key IN ('space', 'goals', 'plan')")
    assert cli(*CONFIRM).code == 0
    assert kept_by(searched_copy).found.recommended is not None
    for command in ("status", "analyze", "export", "test"):
        assert cli(command, "tiny").code == 0


def test_what_was_confirmed_stays_in_the_comparison(confirmed: Path, cli: Cli) -> None:
    """Luckier values of a search that was continued do not displace it."""
    study = main_study(confirmed)
    stored = json.loads(study.user_attrs["confirmed"])
    compared = {row["trial"] for row in stored["found"]["rows"]}
    others = [trial for trial in study.get_trials(deepcopy=False) if trial.number not in compared]
    recommended = max(others, key=lambda trial: trial.value or 0.0).number  # whatever it was: the worst of the search
    stored["found"]["recommended"] = recommended
    study.set_user_attr("confirmed", json.dumps(stored))
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    assert recommended in {row.trial for row in kept_by(confirmed).found.rows}


def test_a_study_of_another_program(searched_copy: Path, cli: Cli) -> None:
    """A study of the companion's name that another program made is left alone, and never read as a confirmation."""
    name, storage = "tiny/confirm", "sqlite:///runs/studies.db"
    foreign = optuna.create_study(study_name=name, storage=storage)
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    done = cli(*CONFIRM)
    assert done.code == 0
    assert "the database also holds `tiny/confirm`, which is not the confirmation of this study" in done.err
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 1
    assert name in cli("list").out


def test_a_record_of_another_version(confirmed: Path, cli: Cli) -> None:
    """Fields of a later version are ignored; what cannot be read counts as not confirmed."""
    study = main_study(confirmed)
    stored = json.loads(study.user_attrs["confirmed"])
    stored["new"] = stored["found"]["new"] = stored["found"]["rows"][0]["new"] = 1
    study.set_user_attr("confirmed", json.dumps(stored))
    assert "confirmed with fresh seeds" in cli("export", "tiny").err
    del stored["found"]["verdict"]
    study.set_user_attr("confirmed", json.dumps(stored))
    assert "not confirmed" in cli("export", "tiny").err
    assert cli("status", "tiny").code == 0


def test_nothing_to_confirm(place: Path, tiny: Path, cli: Cli) -> None:
    """A missing study, and one with only its baseline, are refused."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
    done = cli("confirm", "nope")
    assert (done.code, "the database holds no study `nope`" in done.err) == (2, True)
    done = cli("confirm", "tiny")
    assert (done.code, "except the baseline is complete" in done.err) == (1, True)
    assert not (place / "runs" / "tiny" / "confirm").exists()


def test_other_data(searched_copy: Path, tmp_path: Path, tiny: Path, cli: Cli) -> None:
    """Other data are refused, because values from other clips are not comparable."""
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    (other / "sign_to_prediction_index_map.json").write_text('{"a": 0, "b": 1, "c": 2}', encoding="utf-8")
    done = cli(*CONFIRM, "--data", other)
    assert (done.code, "this is not the data" in done.err) == (2, True)


def test_the_companion_is_no_search(confirmed: Path, cli: Cli) -> None:
    """The companion is not listed as a study, and no search can have its name."""
    assert "confirm" not in cli("list").out
    assert "/confirm" not in cli("status", "nope").err
    assert cli("run", "tiny.yaml", "--as", "tiny/confirm").code == 2


def test_status_shows_it(confirmed: Path, cli: Cli) -> None:
    """`status` shows the confirmation, and that the search was continued since."""
    shown = cli("status", "tiny")
    assert "verdict" in shown.out
    assert "since" not in shown.out
    assert cli("run", "tiny.yaml", "--data", main_data(confirmed), "--more", 1).code == 0
    assert "1 trial finished since" in cli("status", "tiny").out


def main_data(folder: Path) -> str:
    """The data of the study."""
    return str(json.loads(main_study(folder).user_attrs["data"])["folder"])


def test_several_objectives(place: Path, tiny: Path, cli: Cli) -> None:
    """The primary objective decides."""
    both = ("--set", "objective=[{metric: parameters}, {metric: val_loss}]")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 4, *both).code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    assert kept_by(place).objective == "val_loss"
    values = [one.values[1] for one in trainings(place) if one.params["candidate"] == 0]
    assert kept_by(place).found.rows[-1].values == tuple(values)
