"""Commands that export configurations, models and whole studies, and that use what was exported."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands import options as opt
from search.commands.output import STDOUT, require_writable, utf8_stdout, write_output
from search.commands.studies import chosen_study, open_study
from search.commands.waiting import doing, done, loading
from search.errors import DefinitionError, ExitCode

if TYPE_CHECKING:
    import optuna

    from model.record import EpochRecord
    from search.exporting.setup import Setup
    from search.running.signals import StopSignals


def export(
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    output: opt.OutputFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --output if it exists.")] = False,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Export this trial instead.")] = None,
    searched: Annotated[
        bool,
        typer.Option(
            "--searched", help="Export the trial with the best value, even if another one was confirmed or is believed in."
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="Write a model that the confirmation trained to this new folder."),
    ] = None,
    onnx: opt.Onnx = False,
    runs: opt.Runs = opt.RUNS,
) -> None:
    """Write the best configuration as YAML, or a trained model. A configuration can be trained anywhere.

    YAML goes to stdout, or to the file of --output. With --model it is in the model's folder, as config.yaml, and stdout stays
    empty; `--output -` prints it all the same.
    """
    from search.commands.console import print_note
    from search.exporting.export import choose_trial, export_text, exported_of
    from search.running.summary import trial_summary
    from search.wording import format_values

    if searched and trial is not None:
        raise DefinitionError("--searched and --trial cannot be given together", hint="--trial can name any trial")
    if onnx and model is None:
        raise DefinitionError("--onnx needs --model", hint="name the model's folder with --model DIR")
    require_writable(output, replace=force)
    opened, opened_storage = open_study(study, storage)
    chosen, reason = choose_trial(opened, trial, searched=searched)
    exported = exported_of(opened, chosen)
    made = None
    if model is not None:
        doing("writing the model")
        from search.exporting.writing import export_model
        from search.study.trials import trial_configs

        made = export_model(opened, opened_storage, exported, trial_configs(chosen), model, runs=runs, onnx=onnx, why=reason)
    if model is None or output is not None:
        write_output(export_text(exported, reason), output)
    is_file = output is not None and output != STDOUT
    print_note("\n".join(filter(None, (reason, exported.caution))))
    if made is not None and model is not None:
        print_note(f"wrote a model to {model}: {made.text}")
        print_note(f"  {', '.join(sorted(path.name for path in model.iterdir()))}")
    if is_file and (found := trial_summary(chosen)):
        values = f"{format_values(found.values)}, top1 {found.val_top1:.4f}"
        print_note(f"wrote trial {chosen.number} to {output}; in the search: {values}")
    if trial is None:
        _print_front(opened)
    if is_file:
        print_note(f"next: islr-search retrain {output}")
    if model is not None:
        print_note(f"next: islr-search predict {model} CLIP...")


def _print_front(study: optuna.Study) -> None:
    """With several objectives, prints the trials among which the primary objective has decided."""
    from search.commands.console import print_note
    from search.definition.objectives import primary_index
    from search.running.summary import trial_summary
    from search.study.study import study_objectives
    from search.study.trials import pareto_front
    from search.wording import format_values

    objectives = study_objectives(study)
    if len(objectives) == 1:
        return
    primary = primary_index(objectives)
    print_note(f"several objectives have no single best trial: {objectives[primary].name} decided. The Pareto front:")
    for trial in pareto_front(study.get_trials(deepcopy=False), primary):
        if found := trial_summary(trial):
            print_note(f"  --trial {found.trial:<5} {format_values(found.values)}, top1 {found.val_top1:.4f}")


def retrain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported configuration.")],
    data: opt.Data = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the model, its learning curve and metrics to this folder.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed. [default: the recorded seed]")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda[:N]", help="Device to train on. [default: the recorded device]")
    ] = None,
    all_signers: Annotated[
        bool,
        typer.Option(
            "--all-signers",
            help="Train a final model on all signers, for the best number of epochs of the search. Nothing is compared. "
            "Test signers are included only if `test` has opened them.",
        ),
    ] = False,
    onnx: opt.Onnx = False,
    runs: opt.Runs = opt.RUNS,
) -> int:
    """Train an exported configuration again. Compares the result with the recorded number."""
    loading()
    from search.exporting.export import read_export
    from search.exporting.setup import set_up
    from search.running.refused import nothing_left_if_refused
    from search.running.signals import StopSignals
    from search.trial.machine import checked_device, device_kind

    if (all_signers or onnx) and output is None:
        option = "--all-signers" if all_signers else "--onnx"
        raise DefinitionError(f"{option} needs --output", hint="name the model's folder with --output DIR")
    exported, configs = read_export(file)
    used = checked_device(device or device_kind(str(exported.made_with.get("device", "auto"))))
    doing("reading the data set")
    with nothing_left_if_refused(runs), StopSignals() as stop:
        setup = set_up(exported, configs, data=data, seed=seed, device=used, runs=runs, output=output, onnx=onnx)
        return _train_final(setup, output, stop) if all_signers and output is not None else _reproduce(setup, stop)


def _reproduce(setup: Setup, stop: StopSignals) -> ExitCode:
    """Trains a configuration again, and prints whether the recorded number is reproduced."""
    from search.commands.console import print_note, print_result
    from search.commands.screens import PlainScreen
    from search.exporting.retrain import retrain as train_again
    from search.exporting.text import epoch_line, retrained_lines

    def on_epoch(training: int, record: EpochRecord) -> bool:
        model = f"model {training + 1}  " if setup.exported.repeats > 1 or setup.exported.data.get("folds") else ""
        print_note(model + epoch_line(record, setup.configs.train.epochs))
        return not stop.reason

    result = train_again(setup, emit=PlainScreen(), on_epoch=on_epoch, stop=stop)
    if result is None:
        return stop.exit_code
    print_result(*retrained_lines(result))
    return ExitCode.DONE if not result.invalid and (result.is_reproduced or result.differences) else ExitCode.NO


def _train_final(setup: Setup, output: Path, stop: StopSignals) -> ExitCode:
    """Trains a final model on all signers."""
    from search.commands.console import print_note
    from search.commands.screens import PlainScreen
    from search.exporting.final import plan_final, train_final
    from search.exporting.text import final_lines

    plan = plan_final(setup)
    for line in final_lines(plan):
        print_note(line)

    def on_epoch(record: EpochRecord) -> bool:
        print_note(f"epoch {record.epoch:>3}/{plan.epochs}  train_loss {record.train_loss:.4f}  {record.seconds:.1f}s")
        return not stop.reason

    model = train_final(plan, output, emit=PlainScreen(), on_epoch=on_epoch)
    if model is None:
        return stop.exit_code
    print_note(f"wrote a model to {output}: {model.text}")
    print_note(f"next: islr-search predict {output} CLIP...")
    return ExitCode.DONE


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a model, written by `export --model`.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Clips: HDF5, parquet, npy, npz, pose, a folder of frames, or videos."),
    ],
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="Number of words per clip, most probable first.")] = 3,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Order of the parts in arrays, such as pose,face,left_hand,right_hand. [default: the one that fits the body]",
        ),
    ] = None,
    output: opt.OutputFile = None,
    device: opt.Device = "auto",
    as_json: opt.AsJson = False,
) -> int:
    """Predict the words of clips with a model. Writes the most probable words and their probabilities as CSV."""
    doing("loading the model")
    from data_utils.importing.readings import parse_order
    from data_utils.inputs import check_inputs
    from data_utils.streams import output_error
    from data_utils.wording import counted
    from model.bundle import load_bundle
    from search.commands.console import print_note
    from search.exporting.predict import csv_header, csv_row, json_row, predictions
    from search.trial.machine import checked_device

    parts = None if order is None else parse_order(order)
    check_inputs(files)
    require_writable(output)
    model = load_bundle(bundle, checked_device(device))
    if caution := model.metrics.get("caution"):
        print_note(f"how this model was validated: {caution}")
    count = min(top, len(model.words))
    clips = problems = 0
    stream = utf8_stdout() if output is None else io.StringIO()
    write_cells = csv.writer(stream, lineterminator="\n").writerow
    if not as_json:
        write_cells(csv_header(count))
    doing("predicting")
    for prediction in predictions(model, files, count, order=parts, notify=print_note):
        if not clips:
            done()
        if as_json:
            stream.write(json_row(prediction))
        else:
            write_cells(csv_row(prediction, count))
        clips += 1
        problems += bool(prediction.problem)
        if output_error() is not None:
            break  # nobody reads the rest
    if isinstance(stream, io.StringIO):
        write_output(stream.getvalue(), output)
        print_note(f"wrote {counted(clips, 'clip')} to {output}")
    if problems:
        print_note(f"{problems:,} of {counted(clips, 'clip')} could not be read: see the column `problem`")
    return ExitCode.NO if problems else ExitCode.DONE


def copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="Storage to copy to.")],
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
) -> None:
    """Copy a study to another storage and verify the copy. Its confirmation and files are copied too; the original stays."""
    from search.commands.console import print_note, print_result
    from search.study.copying import copy_study, copy_summary
    from search.wording import study_args

    name = chosen_study(study, storage)
    doing("copying the study")
    copied = copy_study(name, storage, to, runs, print_note)
    print_result(copy_summary(copied))
    words = study_args(copied.study, copied.target)
    print_note(f"next: islr-search run {words}{', with SEARCH_STORAGE set to the new storage' if '$' in words else ''}")
    print_note("the original study is unchanged; the copy has files of its own: the two can go different ways")
