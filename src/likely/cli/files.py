"""Files of commands beside runs: contexts, masks, samples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likely import pictures
from likely.cli.writers import is_picture, writer_of
from likely.data import Preparation, load_context
from likely.data.readers import read_array
from likely.errors import InputError
from likely.event import Event
from likely.runs.files import write_file


def context_value(text: str, n: int) -> Tensor:
    """Read a context from the command line: a number, numbers with commas between them, or the first n of PATH:key."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        x = load_context(text, "test")
        if len(x) < n:
            raise InputError(f"--context: {n} values are expected, {text} has {len(x)}") from None
        return x[:n]
    whole = all(number.is_integer() and abs(number) < 2**63 for number in numbers)
    if whole:
        numbers = [int(number) for number in numbers]
    value = torch.tensor(numbers)
    return value[0] if len(numbers) == 1 else value


def sizes_of(text: str) -> tuple[int, ...]:
    """Read sizes from the command line, with commas between them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--size: HEIGHT,WIDTH is expected, as 32,48, found {text}") from None


def read_mask(observed: str, event: Event, preparation: Preparation | None) -> Any:
    """Return "top" or "left" as it is, or read a mask from a file, in the layout of the data."""
    if observed in ("top", "left"):
        return observed
    if not Path(observed).suffix:
        raise InputError(f"--observed: top, left or a mask in .npy is expected, found {observed}")
    mask = torch.from_numpy(np.asarray(read_array(Path(observed))))
    if preparation is None or preparation.layout == "flat" or tuple(mask.shape) == event.shape:
        return mask
    if preparation.layout == "hw":
        return mask.unsqueeze(-3)
    if preparation.layout == "hwc":
        return mask.movedim(-1, -3)
    return mask


def write_examples(path: Path, x: Tensor, event: Event, preparation: Preparation | None) -> None:
    """Write examples as an array in the layout of the data, as a table, or as a picture."""
    if not is_picture(path):
        write_array(path, restored(x, preparation), preparation)
    elif not path.suffix:
        write_array(path, _as_pictures(restored(x, preparation), event))
    elif not event.discrete and event.dims <= 2:
        pictures.write(path, pictures.scatter(x, event))
    else:
        pictures.write(path, pictures.grid(x, _levels(event)))


def write_infilling(
    path: Path, x: list[Tensor], mask: Any, completed: list[Tensor], event: Event, preparation: Preparation | None
) -> None:
    """Write completions as arrays, a table, or a picture beside the originals.

    Args:
        path: .npy, .csv, .npz for examples of several sizes, or a picture.
        x, completed: examples (*shape), perhaps of several sizes.
        mask: of the observed values, as `infill` takes it.
        event: of the examples.
        preparation: of the data.
    """
    if path.suffix == ".npz" and len({one.shape for one in completed}) > 1:
        raw = [restored(one[None], preparation)[0].cpu().numpy() for one in completed]
        write_file(path, lambda file: np.savez(file, *raw))
        return
    if not is_picture(path):
        if len({one.shape for one in completed}) > 1:
            raise InputError(f"--out: examples of several sizes go into a .npz file or a picture, found {path}")
        write_examples(path, torch.stack(completed), event, preparation)
        return
    from likely.jobs.generate import observed_mask

    sized = [(event.of_size(one.shape), one) for one in x]
    shown = [observed_mask(own, mask, one[None].shape)[0] for own, one in sized]
    pictures.write(path, pictures.infilling(x, shown, completed, _levels(event)))


def restored(x: Tensor, preparation: Preparation | None) -> Tensor:
    """Return examples in the layout of the data."""
    if preparation is None:
        return x
    return preparation.restore(x)


def write_array(path: Path, x: Tensor, preparation: Preparation | None = None) -> None:
    """Write an array (n, …) in the format of the file's ending; a table as the data that it is like.

    Args:
        path: .npy, .npz, .csv, .tsv, .parquet, … or a new folder.
        x: the array.
        preparation: of the data, for the names and decimals of columns.
    """
    names = decimals = None
    if preparation is not None and preparation.layout == "flat":
        names, decimals = preparation.names, preparation.decimals
    writer_of(path).write_array(path, x.cpu().numpy(), names, decimals)


def _as_pictures(x: Tensor, event: Event) -> Tensor:
    """Return images of symbols in bytes, the largest symbol white."""
    return (x.float() * (255 / max(_levels(event) - 1, 1))).round().to(torch.uint8)


def _levels(event: Event) -> int:
    levels = event.one_alphabet
    if levels is None:
        raise InputError(f"a picture needs symbols of one alphabet, found {event}; give -o FILE.csv or FILE.npy")
    return levels
