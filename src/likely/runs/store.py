"""Run folders: configuration as JSON, weights as safetensors, nothing that is code.

config.json         the model's class and arguments; of a fit also data, preparation, recipe and versions
model.safetensors   weights and buffers
metrics.jsonl       one line per evaluation during the fit
checkpoint/         what resumption needs
"""

import importlib.metadata
import inspect
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from likely.catalogue import models
from likely.density import Density
from likely.errors import Error, InputError, StoreError, WriteError, suggestion
from likely.event import Configured

FORMAT = "likely-run/1"
CONFIG, WEIGHTS, METRICS, CHECKPOINT = (
    "config.json",
    "model.safetensors",
    "metrics.jsonl",
    "checkpoint/state.safetensors",
)
RENAMED = {"likely.MultilayerPerceptron": ("likely.Perceptron", {"activation": "relu"})}  # classes of older files
TIED = "tied"  # in a configuration: names of parameters that are the same as another, and the name of that one
SAME = "same as"  # in a configuration: what stands at another place
Place = tuple[str | int, ...]  # in a configuration: names of arguments, and numbers in lists


def configuration(thing: Any) -> Any:
    """What rebuilds a model: its class and its constructor's arguments, recursively, as JSON values.

    A density that is an argument twice, once of a density that borrows its weights, is written once; the second time
    there is the place of the first, {"same as": ["prior", "lender"]}.

    Raises:
        InputError: an argument is no number, text, list, or model.
    """
    places: dict[Density, Place] = {}

    def at(place: Place, thing: Any) -> Any:
        if isinstance(thing, Density) and places.setdefault(thing, place) != place:
            return {SAME: list(places[thing])}
        if isinstance(thing, Configured):
            names = inspect.signature(type(thing)).parameters
            given = {name: getattr(thing, name) for name in names}
            said = {name: value for name, value in given.items() if (name, value) not in thing.added.items()}
            arguments = {name: at((*place, name), value) for name, value in said.items()}
            return {"class": _public_name(type(thing)), "arguments": arguments}
        if isinstance(thing, list | tuple | torch.nn.ModuleList):
            return [at((*place, k), part) for k, part in enumerate(thing)]
        if not isinstance(thing, str | int | float | None):
            where = ".".join(map(str, place))
            raise InputError(f"{where}: a {type(thing).__name__} cannot be saved as an argument of a model")
        return thing

    config = at((), thing)
    ties = tied(thing) if isinstance(thing, torch.nn.Module) else {}
    return {**config, TIED: ties} if ties else config


def tied(model: torch.nn.Module) -> dict[str, str]:
    """Return the names of parameters that are the same as an earlier one, and the name of that one."""
    first: dict[torch.nn.Parameter, str] = {}
    parameters = model.named_parameters(remove_duplicate=False)
    return {name: first[weight] for name, weight in parameters if first.setdefault(weight, name) != name}


def tie(model: torch.nn.Module, ties: dict[str, str]) -> None:
    """Put the same parameter at two places again, for every pair of names that `tied` has returned."""
    for name, first in ties.items():
        module, _, own = name.rpartition(".")
        model.get_submodule(module).register_parameter(own, model.get_parameter(first))


def build(config: Any) -> Any:
    """The inverse of `configuration`; builds only classes that are already imported.

    Raises:
        StoreError: an unknown class, arguments that it does not take, or a place where there is nothing.
    """
    known, built = _known_classes(), {}

    def at(place: Place, part: Any) -> Any:
        if isinstance(part, list):
            return tuple(at((*place, k), value) for k, value in enumerate(part))
        if not isinstance(part, dict):
            return part
        if SAME in part:
            with understood(f"there is no part of the model at {part[SAME]}"):
                first = tuple(part[SAME])
                return at(first, _found(config, first))
        if place not in built:
            cls = _class_of(part, known)
            with understood(f"{part['class']} cannot be built from its saved arguments"):
                arguments = _implied(part) | part.get("arguments", {})
                built[place] = cls(**{name: at((*place, name), value) for name, value in arguments.items()})
        return built[place]

    thing = at((), config)
    if isinstance(config, dict) and TIED in config:
        with understood("weights cannot be tied as the configuration says"):
            tie(thing, config[TIED])
    return thing


def _found(config: Any, place: Place) -> Any:
    """What stands at a place of a configuration."""
    for key in place:
        config = config["arguments"][key] if isinstance(config, dict) else config[key]
    return config


def _class_of(part: dict, known: dict[str, type]) -> type:
    name = str(part.get("class"))
    name = RENAMED.get(name, (name, {}))[0]
    if name not in known:
        raise StoreError(f"unknown class {name!r}: import the module that defines it first{suggestion(name, known)}")
    return known[name]


def _implied(part: dict) -> dict[str, Any]:
    """Return the arguments that the class of an older file stood for."""
    return dict(RENAMED.get(part["class"], ("", {}))[1])


def renamed(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors under the names that a model's weights have now, which they may not have had in older files."""
    names = {}
    for prefix, module in model.named_modules():
        for old, new in vars(type(module)).get("renamed", {}).items():
            names[f"{prefix}.{old}".lstrip(".")] = f"{prefix}.{new}".lstrip(".")
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


@contextmanager
def understood(problem: str) -> Iterator[None]:
    """Turn whatever goes wrong inside, in making sense of what was read, into a `StoreError`: problem and cause."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        raise StoreError(f"{problem}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def save(model: Density, path: str | Path) -> None:
    """Write a model as a run folder.

    Raises:
        InputError: the path exists and is not an empty folder.
        WriteError: the disk is full, or the like.
    """
    refuse_shared(model)
    path = create(path, {"model": configuration(model)})
    try:
        write_weights(path / WEIGHTS, model.state_dict())
    except BaseException:
        withdraw(path)
        raise


def refuse_shared(model: Density) -> None:
    """Refuse a model one of whose parts, with weights, stands at two places: they would be apart after loading.

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
    path = Path(path)
    model = build(read_config(path)["model"])
    if not isinstance(model, Density):
        raise StoreError(f"{path / CONFIG} describes no model, but {model}")
    tensors = renamed(model, read_weights(path / WEIGHTS)[0])
    ties = tied(model)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        first = str(error).partition("\n")[2].partition("\n")[0].strip()  # after a heading, a line for every weight
        raise StoreError(f"{path / WEIGHTS} does not fit {path / CONFIG}: {first}") from error
    tie(model, ties)
    if any(parameter.dtype == torch.float64 for parameter in model.parameters()):
        model.double()  # what is not saved, too
    return model.eval()


def create(path: str | Path, config: dict) -> Path:
    """Make a run folder with its configuration.

    Raises:
        InputError: the path is taken, by a run or by something else, or may not be written to.
    """
    path = Path(path)
    made = None
    try:
        if (path / CONFIG).exists():
            raise InputError(
                f"{path} is a run already; go on with it by `likely resume {path}`, or choose another folder"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not a run; choose another folder")
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}."))
        write_json(made / CONFIG, {"format": FORMAT, **config})
        made.chmod(0o777 & ~_umask())
        made.replace(path)  # so that the folder appears whole, or not at all
    except WriteError:
        raise
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}; choose another folder") from error
    finally:
        if made is not None and made.exists():
            (made / CONFIG).unlink(missing_ok=True)
            made.rmdir()
    return path


def withdraw(path: Path) -> None:
    """Take back a run folder that holds nothing but its configuration."""
    if [file.name for file in path.iterdir()] == [CONFIG]:
        (path / CONFIG).unlink()
        path.rmdir()


def note_refusal(path: Path, reason: str | None) -> None:
    """Write into a run's configuration why its model could not be frozen; None: it could."""
    config = read_config(path)
    before = config.pop("frozen", None)
    if reason is not None:
        config["frozen"] = {"refused": reason}
    if config.get("frozen") != before:
        write_json(path / CONFIG, config)


def refusal(path: Path) -> str | None:
    """Return why the model of a run could not be frozen, None where nothing is said."""
    frozen = read_config(path).get("frozen")
    return str(frozen["refused"]) if isinstance(frozen, dict) and "refused" in frozen else None


def sweep(path: Path) -> None:
    """Remove what processes that were killed while writing left beside the files of a run."""
    for name in (CONFIG, WEIGHTS, METRICS, CHECKPOINT):
        file = path / name
        for stray in file.parent.glob(f".{file.name}.*"):
            stray.unlink(missing_ok=True)


def read_config(path: str | Path) -> dict:
    """The configuration of a run.

    Raises:
        StoreError: there is no run at the path, or its configuration is damaged or foreign.
    """
    file = Path(path) / CONFIG
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} is not a run: {CONFIG} is missing (make one with `likely fit … --out {path}`)"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{file} cannot be read as JSON: {error}") from error
    model = config.get("model") if isinstance(config, dict) and config.get("format") == FORMAT else None
    if not isinstance(model, dict) or not isinstance(model.get("class"), str):
        raise StoreError(f'{file} is not the configuration of a run: "format": "{FORMAT}" and a model are expected')
    return config


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
        temporary.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
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


def versions() -> dict[str, str]:
    """Versions of what computed a run."""
    names = ("likely", "torch", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_weights(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; what is the same memory under several names is written for each."""
    known, content = set(), {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        content[name] = tensor.detach().cpu().contiguous()
        if memory in known:
            content[name] = content[name].clone()
        known.add(memory)
    write_atomic(path, safetensors.torch.save(content, metadata))


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            # Copied, because in the file's buffer they lie at any address, and sums of products over memory that is not
            # aligned round differently: log p would not be the same to the bit.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged or no safetensors file: {error}") from error


def _public_name(cls: type) -> str:
    return f"likely.{cls.__name__}" if cls.__module__.startswith("likely.") else f"{cls.__module__}.{cls.__qualname__}"


def _known_classes() -> dict[str, type]:
    models()  # imports every family

    def below(cls: type) -> list[type]:
        return [cls, *(c for sub in cls.__subclasses__() for c in below(sub))]

    return {_public_name(cls): cls for cls in below(Configured) if not inspect.isabstract(cls)}
