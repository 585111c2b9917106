"""`freeze` a fitted model: the same network with exact leaves, stored as integers, known by its hash."""

import copy
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from likely.coding.codecs import codec
from likely.coding.rehearsal import rehearse
from likely.data import Preparation
from likely.density import Density
from likely.errors import FormatError, InputError, StoreError, UncodableError
from likely.latent.latent import LatentVariable, draw_terms
from likely.nn.exact import ExactLeaf
from likely.nn.foreign import as_leaf
from likely.nn.leaf import own_state, with_state
from likely.nn.units import InUnits
from likely.rows import Rows
from likely.runs import Run
from likely.runs.bounds import MODEST, OF_FROZEN, Modest, refuse_counts
from likely.runs.configuration import build, configuration
from likely.runs.files import write_atomic
from likely.runs.run import CONFIG

FORMAT = "likely-frozen/1"
FROZEN = "frozen.safetensors"
EXAMPLES = 1000
BATCH = 100  # of them at a time
METADATA = "likely"

# Errors that damaged files lead to, where their configuration and numbers meet the constructors of models.
DAMAGE = (
    *(SafetensorError, LookupError, TypeError, ValueError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError),
)


class Frozen:
    """A model in exact arithmetic: its results are the same bits on every machine, batch size and thread count.

    Attributes:
        model: the density, of the same class as the one that was frozen; in float64.
        preparation: of raw data into its symbols, if known.
        content: the file.
        id: SHA-256 of the file; compressed files name their model by it.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.id = hashlib.sha256(content).digest()
        try:
            tensors = safetensors.torch.load(content)
            header = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + header]).get("__metadata__", {})
            if METADATA not in metadata:
                raise FormatError("no frozen model: a run's frozen.safetensors is expected")
            described = json.loads(metadata[METADATA])
            if described["format"] != FORMAT:
                raise FormatError(f"a frozen model of the format {FORMAT} is expected, found {described['format']!r}")
            preparation = described["preparation"]
            self.preparation = None if preparation is None else Preparation.from_json(preparation)
            self.model = assemble(described["model"], tensors)
        except StoreError:
            raise
        except DAMAGE as error:
            raise FormatError(f"damaged, or no frozen model: {' '.join(str(error).split())}") from error
        self.self_test()

    def self_test(self) -> None:
        """Hold every leaf, fed with random extreme integers, against integer arithmetic.

        Raises:
            ExactnessError: this machine does not compute it exactly.
        """
        generator = torch.Generator().manual_seed(0)
        for module in self.model.modules():
            if isinstance(module, ExactLeaf):
                module.test(generator)

    @classmethod
    def load(cls, path: str | Path) -> "Frozen":
        """Read a frozen model from its file or from a run's folder.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        path = Path(path)
        file = _file(path)
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            if not path.is_dir():
                raise StoreError(f"{path}: no such run or frozen model") from error
            if not (path / CONFIG).exists():
                raise StoreError(f"{path} is not a run") from error
            reason = None
            with suppress(StoreError):
                reason = Run.read(path).refusal
            if reason is not None:
                raise StoreError(f"{file} is missing: {reason}") from error
            raise StoreError(
                f"{file} is missing; `likely freeze {path} DATA` makes it, or says why this model cannot be coded"
            ) from error
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror}") from error
        try:
            return cls(content)
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the file, atomically; into the folder where the path is one."""
        write_atomic(_file(Path(path)), self.content)


def _file(path: Path) -> Path:
    """Return the file of a frozen model, by its path or a run's."""
    if path.is_dir():
        return path / FROZEN
    return path


def freeze(model: Density, calibration: Any, *, preparation: Preparation | None = None) -> Frozen:
    """Bring a fitted model into exact arithmetic, with 16-bit weights and activations.

    Args:
        model: a density with a network of the library's leaf layers.
        calibration: data (n, *event.shape) like those to be coded, or a pair with their context; the first thousand
            are used. They fix the range of every layer's inputs; beyond it, inputs are clamped at coding time: this
            costs rate and never correctness.
        preparation: of raw data into symbols, kept with the frozen model.

    Raises:
        InputError: the data are not the model's, or a part of its network has no exact twin; names it.
        UncodableError: the class of density has no codec yet.
    """
    model = model.coded_as()
    if not model.event.discrete:
        raise UncodableError(f"{type(model).__name__} cannot be frozen: it is over real values, and symbols are coded")
    codec(model, batch=1)
    if model.device.type != "cpu":
        model = copy.deepcopy(model).cpu()  # exact arithmetic is the processor's
    rows = Rows.of(calibration)
    model.event.check_shape(rows.read_shape)
    rows = rows[:EXAMPLES]
    training = model.training
    model.eval()
    tensors = collect(model, _largest_inputs(model, rows))
    model.train(training)
    described = {
        "format": FORMAT,
        "model": configuration(model),
        "preparation": None if preparation is None else preparation.to_json(),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    frozen = Frozen(safetensors.torch.save(tensors, {METADATA: json.dumps(described, sort_keys=True)}))
    x, context = next(rows.batches(2)).read()
    rehearse(frozen.model.of_size(x.shape[1:]), frozen.model.check(x), frozen.model.check_context(context, len(x)))
    return frozen


@torch.no_grad()
def _largest_inputs(model: Density, rows: Rows) -> dict[str, float]:
    """Return the largest |input| of every leaf on the calibration data.

    Raises:
        InputError: the data are not the model's.
    """
    largest: dict[str, float] = {}
    hooks = []
    for name, module in model.named_modules():
        if as_leaf(module) is not None:

            def note(module: nn.Module, inputs: tuple, name: str = name) -> None:
                x = inputs[0]
                if isinstance(x, Tensor) and x.is_floating_point() and x.numel():  # by steps, nothing comes at first
                    largest[name] = max(largest.get(name, 0.0), float(x.abs().max()))

            hooks.append(module.register_forward_pre_hook(note))
    try:
        for k, part in enumerate(rows.batches(BATCH)):
            x, context = part.read()
            x, context = model.check(x), model.check_context(context, len(x))
            generator = torch.Generator(x.device).manual_seed(k * BATCH)
            if isinstance(model, LatentVariable) and model.encoder is None:
                draw_terms(model, x, 1, generator, model.prior)
            else:
                model.log_prob(x, context, generator=generator)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def collect(model: nn.Module, largest: dict[str, float]) -> dict[str, Tensor]:
    """Return every number of a frozen model, by the name of the module that holds it.

    Raises:
        InputError: weights that are not finite, or outside the leaves.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"{type(model).__name__} cannot be frozen: {name} is not finite everywhere")
    tensors: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        leaf = as_leaf(module)
        if leaf is None:
            _refuse_weights(model, name, module)
            stored = own_state(module)
        else:
            stored = leaf.quantize(largest.get(name, 0.0))
        tensors |= {_full_name(name, key): value for key, value in stored.items()}
    return tensors


def _refuse_weights(model: nn.Module, name: str, module: nn.Module) -> None:
    weights = [weight for weight, _ in module.named_parameters(recurse=False)]
    if weights:
        raise InputError(
            f"{type(model).__name__} cannot be frozen: {name or 'the model'} ({type(module).__name__}) holds "
            f"weights of its own ({', '.join(weights)}), and has no exact twin"
        )


def _full_name(module: str, key: str) -> str:
    return f"{module}.{key}" if module else key


def assemble(config: Any, tensors: dict[str, Tensor]) -> Density:
    """Build a frozen model from its configuration and its numbers.

    Raises:
        FormatError: numbers are missing or of another shape.
    """
    refuse_counts(config, OF_FROZEN)
    with Modest(MODEST + 64 * sum(tensor.numel() for tensor in tensors.values())):
        model = build(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    left = dict(tensors)
    model = _exact(model, "", left).double()
    if left:
        raise FormatError(f"the frozen model holds {', '.join(sorted(left))}, which its class does not have")
    return model


def _exact(module: Any, name: str, left: dict[str, Tensor]) -> Any:
    """Return the module with the exact twin of every leaf in it, taking the numbers that these use out of `left`."""
    for child_name, child in list(module.named_children()):
        setattr(module, child_name, _exact(child, _full_name(name, child_name), left))
    leaf = as_leaf(module)
    if leaf is None:
        if isinstance(module, InUnits) and any(_full_name(name, later) in left for later in module.later):
            module.be_saved()
        return with_state(module, _taken(name, own_state(module), left))
    stored = _taken(name, leaf.blank(), left)
    try:
        return leaf.exact(stored)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from error


def _taken(module: str, built: dict[str, Tensor], left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the numbers of a module out of `left`, held against those that its class has."""
    stored = {}
    for key, expected in built.items():
        name = _full_name(module, key)
        if name not in left:
            raise FormatError(f"{name} is missing")
        stored[key] = left.pop(name)
        _check(name, stored[key], expected)
    return stored


def _check(name: str, value: Tensor, built: Tensor) -> None:
    """Hold a file's numbers against those of its class: shape, kind of numbers, and orders that must stay orders."""
    alike = value.dtype == built.dtype or (value.is_floating_point() and built.is_floating_point())
    if value.shape != built.shape or not alike:
        expected, found = (f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in (built, value))
        raise FormatError(f"{name}: expected shape {expected}, found {found}")
    if not value.isfinite().all():
        raise FormatError(f"{name} is not finite everywhere")
    if name.endswith("deviation") and not (value > 0).all():
        raise FormatError(f"{name} is not positive everywhere")
    if built.dtype == torch.int64 and not built.is_meta and built.ndim and built.shape[-1] > 1:
        inside = torch.arange(built.shape[-1]).expand(built.shape)
        if torch.equal(built.sort(-1)[0], inside) and not torch.equal(value.sort(-1)[0], inside):
            raise FormatError(f"{name}: orders of 0 to {built.shape[-1] - 1} are expected")
