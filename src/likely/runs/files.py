"""Files of runs, JSON and safetensors: written whole or not at all. None of them holds code."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from likely.errors import Error, StoreError, WriteError


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Replace a file in one step; an interruption or a full disk leaves the old one whole.

    Raises:
        WriteError: it could not be written.
    """
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        target = path.resolve()  # a link stays one
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode if target.exists() else 0o666 & ~umask()
        temporary.chmod(mode)
        temporary.replace(target)
    except Error:  # of a source that is read meanwhile
        raise
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Make a folder in one step; an interruption or a full disk leaves none.

    Raises:
        OSError: it could not be written, or there is something already.
    """
    made = None
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}."))
        write(made)
        made.chmod(0o777 & ~umask())
        made.replace(path)
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def umask() -> int:
    """Return the permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file's content in one step; raises as `write_file`."""
    write_file(path, lambda file: file.write(content))


def append_line(path: Path, line: str) -> None:
    """Add a line to a file.

    Raises:
        WriteError: it could not be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_weights(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; tensors that share their memory are written once for each name."""
    known, content = set(), {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        content[name] = tensor.detach().cpu().contiguous()
        if memory in known:
            content[name] = content[name].clone()
        known.add(memory)
    write_atomic(path, safetensors.torch.save(content, metadata))


def numbers_in(path: Path) -> int:
    """Return how many numbers a safetensors file holds, by its header.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged or no safetensors file: {error}") from error


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            # Copied, because in the file's buffer they lie at any address, and sums of products over memory that is not
            # aligned round differently: log p would not be the same to the bit.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        if path.exists():  # safetensors calls every file that it cannot open missing
            raise StoreError(f"{path} cannot be read: permission denied") from error
        raise StoreError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged or no safetensors file: {error}") from error
