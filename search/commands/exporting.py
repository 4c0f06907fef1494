"""Commands that hand out what was found, configurations and models, and whole studies."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.options import RUNS, STORAGE, STUDY, AsJson, Data, Device, NamedStudy, Onnx, Runs, Storage, Study
from search.commands.output import require_writable, write_out
from search.commands.studies import opened_with_storage, trial_of
from search.errors import DefinitionError, ExitCode

if TYPE_CHECKING:
    from model.record import EpochRecord
    from search.exporting.setup import Setup
    from search.running.signals import StopSignals


def export(
    study: Study = STUDY,
    storage: Storage = STORAGE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="This trial instead of the best.")] = None,
    searched: Annotated[
        bool, typer.Option("--searched", help="The best of the search, whatever a confirmation recommends.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Also write a model that the confirmation trained.")
    ] = None,
    onnx: Onnx = False,
    runs: Runs = RUNS,
) -> None:
    """The best configuration as YAML, complete enough to train again anywhere; with --model, a model to use."""
    from search.commands.console import talk
    from search.definition.objectives import primary_index
    from search.exporting.export import choose_trial, export_text, exported_of
    from search.running.summary import trial_summary
    from search.study.study import study_objectives
    from search.study.trials import front_of
    from search.wording import format_values

    if searched and trial is not None:
        raise DefinitionError("--searched and --trial cannot be given together", hint="--trial names any trial")
    if onnx and model is None:
        raise DefinitionError("--onnx is for a model", hint="name its folder with --model DIR")
    require_writable(output)
    opened, held = opened_with_storage(study, storage)
    chosen, why = choose_trial(opened, None if trial is None else trial_of(opened, trial), searched=searched)
    objectives = study_objectives(opened)
    primary = primary_index(objectives)
    front = [found for other in front_of(opened.get_trials(deepcopy=False), primary) if (found := trial_summary(other))]
    exported = exported_of(opened, chosen)
    made = None
    if model is not None:
        from search.exporting.writing import export_model
        from search.study.trials import configs_of

        made = export_model(opened, held, exported, configs_of(chosen), model, runs=runs, onnx=onnx)
    write_out(export_text(exported), output)
    talk(why)
    if made is not None:
        talk(f"wrote a model to {model}: {made.text}")
    if output is not None:
        found = trial_summary(chosen)
        assert found is not None, "a complete trial has a result"
        values = f"{format_values(found.values)}, top1 {found.val_top1:.4f}"
        talk(f"wrote trial {chosen.number} to {output}; in the search: {values}")
    if trial is None and len(objectives) > 1:
        talk(f"with several objectives there is no single best: {objectives[primary].name} has decided. The front:")
        for other in front:
            talk(f"  --trial {other.trial:<5} {format_values(other.values)}, top1 {other.val_top1:.4f}")
    if output is not None:
        talk(f"next: python -m search retrain {output}")
    if model is not None:
        talk(f"next: python -m search predict {model} CLIP...")


def retrain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported configuration.")],
    data: Data = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the model, its curve and metrics here.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the recorded one.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to train. [default: the recorded device]")
    ] = None,
    all_signers: Annotated[
        bool,
        typer.Option(
            "--all-signers",
            help="A model for use: train on all signers for as many epochs as counted in the search. Nothing is compared. "
            "Sealed signers take part if a test has opened them.",
        ),
    ] = False,
    onnx: Onnx = False,
    runs: Runs = RUNS,
) -> int:
    """Train an exported configuration and compare with the recorded number."""
    from search.commands.console import say, screen, talk
    from search.exporting.export import read_export
    from search.exporting.retrain import retrain as train_again
    from search.exporting.setup import set_up
    from search.exporting.text import epoch_line, retrained_lines
    from search.running.signals import StopSignals
    from search.trial.machine import checked_device

    if (all_signers or onnx) and output is None:
        raise DefinitionError("the model needs a place", hint="name its folder with --output DIR")
    exported, configs = read_export(file)
    used = checked_device(device or str(exported.made_with.get("device", "auto")))
    with StopSignals() as stop:
        setup = set_up(exported, configs, data=data, seed=seed, device=used, runs=runs, output=output, onnx=onnx)
        if all_signers and output is not None:
            return _train_final(setup, output, stop)

        def on_epoch(training: int, record: EpochRecord) -> bool:
            model = f"model {training + 1}  " if exported.repeats > 1 or exported.data.get("folds") else ""
            talk(model + epoch_line(record, configs.train.epochs))
            return not stop.reason

        result = train_again(setup, emit=screen(as_json=False, progress=False), on_epoch=on_epoch, stop=stop)
    if result is None:
        return stop.exit_code
    for line in retrained_lines(result):
        say(line)
    return ExitCode.DONE if not result.invalid and (result.is_reproduced or result.differences) else ExitCode.NO


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A model: a folder that `export --model` wrote.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Clips: HDF5, parquet, npy, or a folder of npy frames.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="This many of the likeliest words.")] = 3,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> int:
    """Ask a model: the likeliest words of each clip with their probabilities, as CSV."""
    from data_utils.inputs import check_inputs
    from data_utils.wording import counted
    from model.bundle import load_bundle
    from search.commands.console import talk
    from search.exporting.predict import csv_header, csv_row, json_row, predictions
    from search.trial.machine import checked_device

    check_inputs(files)
    require_writable(output)
    asked = load_bundle(bundle, checked_device(device))
    count = min(top, len(asked.words))
    clips = problems = 0
    stream = sys.stdout if output is None else io.StringIO()
    write_cells = csv.writer(stream, lineterminator="\n").writerow
    if not as_json:
        write_cells(csv_header(count))
    for prediction in predictions(asked, files, count):
        if as_json:
            stream.write(json_row(prediction))
        else:
            write_cells(csv_row(prediction, count))
        clips += 1
        problems += bool(prediction.problem)
    if isinstance(stream, io.StringIO):
        write_out(stream.getvalue(), output)
        talk(f"wrote {counted(clips, 'clip')} to {output}")
    if problems:
        talk(f"of {counted(clips, 'clip')} {problems:,} could not be asked about: see their `problem`")
    return ExitCode.NO if problems else ExitCode.DONE


def copy(
    study: NamedStudy,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The storage that it is copied to.")],
    storage: Storage = STORAGE,
) -> None:
    """A study with its confirmation to another storage: read back and compared. The old place keeps it too."""
    from search.commands.console import say, talk
    from search.definition.study_file import study_name
    from search.study.copying import copied_line, copy_study
    from search.wording import study_args

    copied = copy_study(study_name(study), storage, to, talk)
    say(copied_line(copied))
    words = study_args(copied.study, copied.target)
    talk(f"next: python -m search run {words}{', where SEARCH_STORAGE is the new place' if '$' in words else ''}")
    talk("the old place still holds the study as it was: go on in one of the two")


def _train_final(setup: Setup, output: Path, stop: StopSignals) -> int:
    from search.commands.console import screen, talk
    from search.exporting.final import plan_final, train_final
    from search.exporting.text import final_lines

    plan = plan_final(setup)
    for line in final_lines(plan):
        talk(line)

    def on_epoch(record: EpochRecord) -> bool:
        talk(f"epoch {record.epoch:>3}/{plan.epochs}  train_loss {record.train_loss:.4f}  {record.seconds:.1f}s")
        return not stop.reason

    model = train_final(plan, output, emit=screen(as_json=False, progress=False), on_epoch=on_epoch)
    if model is None:
        return stop.exit_code
    talk(f"wrote a model to {output}: {model.text}")
    talk(f"next: python -m search predict {output} CLIP...")
    return ExitCode.DONE
