"""Run folders: configuration as JSON, weights as safetensors, nothing that is code.

config.json         the model's class and arguments; of a fit also data, preparation, recipe and versions
model.safetensors   weights and buffers
metrics.jsonl       one line per evaluation during the fit
checkpoint/         the state that resumption needs
"""

import glob
import shutil
from pathlib import Path

import torch

from likely.density import Density
from likely.errors import FormatError, InputError, StoreError, require_path
from likely.runs.bounds import MOST, OF_RUNS, Bounded, refuse_counts
from likely.runs.configuration import build, configuration, renamed, tie, tied
from likely.runs.files import numbers_in, read_weights, write_folder, write_weights
from likely.runs.run import CONFIG, Run

WIDE = 1 << 26  # elements that building a model may take beyond 64 times those of its weights
WEIGHTS, METRICS, CHECKPOINT = "model.safetensors", "metrics.jsonl", "checkpoint/state.safetensors"
FROZEN = "frozen.safetensors"


def save(model: Density, path: str | Path) -> None:
    """Write a model as a run folder.

    Raises:
        InputError: the path exists and is not an empty folder.
        WriteError: the disk is full, or the like.
    """
    refuse_shared(model)
    path = create(path, Run(configuration(model)))
    try:
        write_weights(path / WEIGHTS, model.state_dict())
    except BaseException:
        withdraw(path)
        raise


def refuse_shared(model: Density) -> None:
    """Refuse a model with the same part, with weights, at two places: they would be two parts after loading.

    Raises:
        InputError: names the places.
    """
    places: dict[int, str] = {}
    for name, part in model.named_modules(remove_duplicate=False):
        first = places.setdefault(id(part), name)
        if first != name and part.state_dict():
            raise InputError(
                f"the same {type(part).__name__} stands at {first} and {name} of this {type(model).__name__}, which "
                "cannot be saved; make another one for each place"
            )


def load(path: str | Path) -> Density:
    """Read a model from its run folder, in evaluation mode; nothing is executed or unpickled.

    Raises:
        StoreError: a file is missing, damaged or foreign, or the weights do not fit the configuration.
    """
    path = require_path(path=path)
    config = Run.read(path).model
    stored = read_weights(path / WEIGHTS)[0]
    model = built(path, config, WIDE + 64 * sum(tensor.numel() for tensor in stored.values()))
    tensors = renamed(model, stored)
    ties = tied(model)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        first = str(error).partition("\n")[2].partition("\n")[0].strip()  # after a heading, a line for every weight
        raise StoreError(f"{path / WEIGHTS} does not fit {path / CONFIG}: {first}") from error
    tie(model, ties)
    if any(parameter.dtype == torch.float64 for parameter in model.parameters()):
        model.double()  # buffers that are not saved, too
    return model.eval()


def built_again(path: Path, config: dict) -> Density:
    """Build the model of a fit that goes on, with its first weights: as large as its checkpoint allows."""
    if not (path / CHECKPOINT).exists():
        return built(path, config, MOST, MOST >> 14)
    return built(path, config, WIDE + 64 * numbers_in(path / CHECKPOINT))


def built(path: Path, config: dict, most: int, least: int = 1 << 12) -> Density:
    """Build the model of a run, of at most so many elements, and no operation counting for less than some.

    Raises:
        StoreError: the configuration is no model's, or asks for more.
    """
    try:
        refuse_counts(config, OF_RUNS)
        with Bounded(most, least):
            model = build(config)
    except FormatError as error:
        raise StoreError(f"{path / CONFIG}: {error}") from error
    if not isinstance(model, Density):
        raise StoreError(f"{path / CONFIG} describes no model, but {model}")
    return model


def create(path: str | Path, run: Run) -> Path:
    """Make a run folder with its configuration.

    Raises:
        InputError: the path is taken, by a run or by something else, or may not be written to.
    """
    path = Path(path)
    try:
        if (path / CONFIG).exists():
            raise InputError(
                f"{path} is a run already; go on with it by `likely resume {path}`, or choose another folder"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not a run; choose another folder")
        _sweep_beside(path)
        write_folder(path, run.write)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}; choose another folder") from error
    return path


def _sweep_beside(path: Path) -> None:
    """Remove unfinished folders of this name, left by processes that were killed while they made it."""
    for stray in path.absolute().parent.glob(f".{glob.escape(path.name)}.*"):
        files = list(stray.iterdir()) if stray.is_dir() else [stray]
        if all(file.name.lstrip(".").startswith(CONFIG) for file in files):
            shutil.rmtree(stray, ignore_errors=True)


def withdraw(path: Path) -> None:
    """Take back a run folder that holds nothing but its configuration."""
    if [file.name for file in path.iterdir()] == [CONFIG]:
        (path / CONFIG).unlink()
        path.rmdir()


def sweep(path: Path) -> None:
    """Remove unfinished files beside those of a run, left by processes that were killed while writing."""
    for name in (CONFIG, WEIGHTS, METRICS, CHECKPOINT, FROZEN):
        file = path / name
        for stray in file.parent.glob(f".{file.name}.*"):
            stray.unlink(missing_ok=True)
