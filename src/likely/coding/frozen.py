"""`freeze` a fitted model: the same network with exact leaves, stored as integers, known by its hash."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from likely import store
from likely.classical.counts import Counts
from likely.classical.independent_pixels import IndependentPixels
from likely.coding import exact
from likely.coding.bits_back import latents, pop_latents, push_latents
from likely.coding.rans import Stack
from likely.data import Preparation
from likely.density import Array, Autoregressive, Density, run
from likely.errors import FormatError, InputError, StoreError
from likely.event import Event
from likely.latent.hierarchical_vae import OfLowestLayer
from likely.latent.latent import LatentVariable, draw_terms
from likely.latent.mixture import Mixture
from likely.nn import Symbols

FORMAT = "likely-frozen/1"
FROZEN = "frozen.safetensors"
EXAMPLES = 1000
METADATA = "likely"

# Single elementwise IEEE operations and movements of data give the same bits everywhere.
PORTABLE = {
    *("add", "sub", "rsub", "mul", "div", "sqrt", "round", "floor", "clamp", "clamp_min", "clamp_max", "relu", "abs"),
    *("maximum", "minimum", "where", "square", "neg", "sign", "eq", "ne", "lt", "le", "gt", "ge", "masked_fill"),
    *("cat", "stack", "slice", "select", "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand"),
    *("unsqueeze", "squeeze", "split", "split_with_sizes", "unbind", "index", "index_select", "gather", "embedding"),
    *("constant_pad_nd", "copy", "clone", "_to_copy", "detach", "alias", "lift_fresh", "index_put", "as_strided"),
    *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "empty", "empty_like", "new_empty", "fill"),
    *("full", "full_like", "arange", "zero", "repeat", "_local_scalar_dense", "scalar_tensor", "new_empty_strided"),
    *("argmin",),
}

# What a damaged file leads to, where its configuration and its numbers meet the constructors of models.
DAMAGE = (
    *(SafetensorError, LookupError, TypeError, ValueError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError),
)
MODEST = 1 << 24  # elements that building a model may take beyond 64 times those in its file


class Frozen:
    """A model in exact arithmetic: its results are the same bits on every machine, batch size and thread count.

    Attributes:
        model: the density, of the same class as the one that was frozen; in float64.
        preparation: what turns raw data into its symbols, if known.
        content: the file.
        id: SHA-256 of the file, by which compressed files name their model.
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
        """Hold every linear layer, fed with random extreme integers, against integer arithmetic.

        Raises:
            ExactnessError: this machine does not compute it exactly.
        """
        generator = torch.Generator().manual_seed(0)
        for module in self.model.modules():
            if isinstance(module, exact.Exact):
                module.test(generator)

    @classmethod
    def load(cls, path: str | Path) -> "Frozen":
        """Read a frozen model from its file or from a run's folder.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        path = Path(path)
        file = path / FROZEN if path.is_dir() else path
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            if not path.is_dir():
                raise StoreError(f"{path}: no such run or frozen model") from error
            if not (path / store.CONFIG).exists():
                raise StoreError(f"{path} is not a run") from error
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
        path = Path(path)
        store.write_atomic(path / FROZEN if path.is_dir() else path, self.content)


def freeze(
    model: Density, calibration: Array | tuple[Array, Array | None], *, preparation: Preparation | None = None
) -> Frozen:
    """Bring a fitted model into exact arithmetic, with 16-bit weights and activations.

    Args:
        model: a density whose network is made of the library's leaf layers.
        calibration: data (n, *event.shape) like those to be coded, or a pair with their context; the first thousand
            are used. They fix the range of every layer's inputs; what lies beyond at coding time is clamped, which
            costs rate and never correctness.
        preparation: what turned raw data into symbols, kept with the frozen model.

    Raises:
        InputError: the data are not the model's, or a part of its network has no exact twin; names it.
        NotImplementedError: the class of density cannot be frozen yet.
    """
    if isinstance(model, Mixture):
        model = _summed_by_coding(model)
    if not isinstance(model, Autoregressive | LatentVariable):
        raise NotImplementedError(
            f"{type(model).__name__} cannot be frozen: autoregressive densities and latent-variable models have exact "
            "twins so far"
        )
    if not model.event.discrete:
        raise NotImplementedError(f"{type(model).__name__} over real values cannot be frozen: symbols are coded")
    if isinstance(model, LatentVariable) and not _has_scheme(model):
        raise NotImplementedError(
            f"{type(model).__name__} cannot be frozen: a decoder of symbols and an encoder are needed, or a latent "
            "of one symbol, whose posterior is known"
        )
    if model.device.type != "cpu":
        model = copy.deepcopy(model).cpu()  # exact arithmetic is the processor's
    x, context = calibration if isinstance(calibration, tuple) else (calibration, None)
    x = model.check(x[:EXAMPLES] if isinstance(x, Tensor | np.ndarray) else x)
    context = model.check_context(None if context is None else context[:EXAMPLES], len(x))
    training = model.training
    model.eval()
    tensors = collect(model, _largest_inputs(model, x, context))
    model.train(training)
    described = {
        "format": FORMAT,
        "model": store.configuration(model),
        "preparation": None if preparation is None else preparation.to_json(),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    frozen = Frozen(safetensors.torch.save(tensors, {METADATA: json.dumps(described, sort_keys=True)}))
    _rehearse(frozen, x[:2], None if context is None else context[:2])
    return frozen


def _has_scheme(model: LatentVariable) -> bool:
    z = model.prior.event
    summed = z.discrete and z.shape == () and isinstance(model.prior, Autoregressive)
    decoder = model.decoder.decoder if isinstance(model.decoder, OfLowestLayer) else model.decoder
    return isinstance(decoder, Autoregressive) and (model.encoder is not None or summed)


@torch.no_grad()
def _summed_by_coding(model: Mixture) -> LatentVariable:
    """The same mixture with its component as a latent symbol, which is coded and got back (bits back).

    Raises:
        NotImplementedError: a mixture for every label.
    """
    if model.context is not None:
        raise NotImplementedError("a Mixture with a context cannot be frozen yet")
    which, (log_weights, log_tables) = Event((), model.components), model.products()
    prior, decoder = IndependentPixels(which), IndependentPixels(model.event, which)
    prior.table.copy_(log_weights.exp().view_as(prior.table))
    decoder.table.copy_(log_tables[0].exp().movedim(-1, 0))
    return LatentVariable(prior, decoder)


@torch.no_grad()
def _largest_inputs(model: Density, x: Tensor, context: Tensor | None) -> dict[str, float]:
    """The largest |input| of every linear leaf on the calibration data."""
    largest: dict[str, float] = {}
    hooks = []
    for name, leaf in model.named_modules():
        if type(leaf) in exact.LINEAR:

            def note(module: nn.Module, inputs: tuple, name: str = name) -> None:
                if inputs[0].numel():  # by steps, a first layer is handed what is known: nothing at first
                    largest[name] = max(largest.get(name, 0.0), float(inputs[0].abs().max()))

            hooks.append(leaf.register_forward_pre_hook(note))
    try:
        for start in range(0, len(x), 100):
            part = None if context is None else context[start : start + 100]
            rows, generator = x[start : start + 100], torch.Generator(x.device).manual_seed(start)
            if isinstance(model, LatentVariable) and model.encoder is None:
                draw_terms(model, rows, 1, generator, model.prior)
            else:
                model._log_prob(rows, part, generator)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def collect(model: nn.Module, largest: dict[str, float]) -> dict[str, Tensor]:
    """Every number of a frozen model, by the name of the module that holds it.

    Raises:
        InputError: weights outside the leaves that have exact twins.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"{type(model).__name__} cannot be frozen: {name} is not finite everywhere")
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if type(module) in exact.LINEAR:
            stored = exact.to_integers(module, largest.get(name, 0.0))
            tensors |= {prefix + key: value for key, value in stored.items()}
            continue
        weights = dict(module.named_parameters(recurse=False))
        if weights and not isinstance(module, Symbols):
            raise InputError(
                f"{type(model).__name__} cannot be frozen: {name or 'the model'} ({type(module).__name__}) holds "
                f"weights of its own ({', '.join(weights)}), and has no exact twin"
            )
        kept = module.state_dict().keys() - exact.of_training(module)
        buffers = {key: b for key, b in module.named_buffers(recurse=False) if key in kept}
        tensors |= {prefix + key: value for key, value in (weights | buffers).items()}
        if isinstance(module, Counts):
            tensors[prefix + "table"] = _whole(module.table)
    return tensors


def _whole(table: Tensor) -> Tensor:
    """Counts as whole numbers, each row adding up to 2³⁷ at most."""
    table = table.double()
    return (table * (2.0**37 / table.sum(-1).max())).floor().long()


def assemble(config: Any, tensors: dict[str, Tensor]) -> Density:
    """Build a frozen model from its configuration and its numbers.

    Raises:
        FormatError: numbers are missing or of another shape.
    """
    _refuse_sizes(config)
    with _Modest(MODEST + 64 * sum(tensor.numel() for tensor in tensors.values())):
        model = store.build(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    left = dict(tensors)
    model = _swapped(model.double(), "", left)
    if left:
        raise FormatError(f"the frozen model holds {', '.join(sorted(left))}, which its class does not have")
    return model


def _swapped(module: Any, prefix: str, left: dict[str, Tensor]) -> Any:
    """The module with every leaf below it exact; takes what it uses out of `left`."""
    for name, child in list(module.named_children()):
        setattr(module, name, _swapped(child, f"{prefix}{name}.", left))
    if type(module) in exact.LINEAR:
        return exact.Exact(module, _stored(module, prefix, left))
    for store_ in (module._parameters, module._buffers):
        for name, built in list(store_.items()):
            if prefix + name in left:
                value = left.pop(prefix + name)
                if isinstance(module, Counts) and name == "table":
                    _check_counts(prefix + name, value, built)
                else:
                    _check(prefix + name, value, built)
                value = value.double() if value.is_floating_point() else value
                store_[name] = nn.Parameter(value, requires_grad=False) if store_ is module._parameters else value
            elif built is not None and name not in module._non_persistent_buffers_set | exact.of_training(module):
                raise FormatError(f"{prefix}{name} is missing")
    twin = exact.twin(module)
    return module if twin is None else twin


def _stored(leaf: nn.Module, prefix: str, left: dict[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of a linear leaf, as `to_integers` makes them."""
    weight = leaf.get_parameter("weight")
    built = {
        "weight": weight.to(torch.int16),
        "bias": torch.zeros(len(weight), dtype=torch.int64),
        "exponent": torch.zeros(len(weight), dtype=torch.int16),
        "grid": torch.zeros((), dtype=torch.int16),
        **{name: leaf.get_buffer(name) for name in exact.orders(leaf)},
    }
    stored = {}
    for name, expected in built.items():
        if prefix + name not in left:
            raise FormatError(f"{prefix}{name} is missing")
        stored[name] = left.pop(prefix + name)
        _check(prefix + name, stored[name], expected)
    if max(stored[name].long().abs().max() for name in ("exponent", "grid")) > 256:
        raise FormatError(f"{prefix}exponent or {prefix}grid is beyond 256")
    return stored


def _check(name: str, value: Tensor, built: Tensor) -> None:
    """Hold what a file says against what its class has: shape, kind of numbers, and orders that must stay orders."""
    alike = value.dtype == built.dtype or (value.is_floating_point() and built.is_floating_point())
    if value.shape != built.shape or not alike:
        expected, found = (f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in (built, value))
        raise FormatError(f"{name}: expected shape {expected}, found {found}")
    if not value.isfinite().all():
        raise FormatError(f"{name} is not finite everywhere")
    if name.endswith("deviation") and not (value > 0).all():
        raise FormatError(f"{name} is not positive everywhere")
    if built.dtype == torch.int64 and built.ndim and built.shape[-1] > 1:
        inside = torch.arange(built.shape[-1]).expand(built.shape)
        if torch.equal(built.sort(-1)[0], inside) and not torch.equal(value.sort(-1)[0], inside):
            raise FormatError(f"{name}: orders of 0 to {built.shape[-1] - 1} are expected")


def _check_counts(name: str, value: Tensor, built: Tensor) -> None:
    """Counts are as `_whole` makes them."""
    if value.shape != built.shape or value.dtype != torch.int64:
        raise FormatError(f"{name}: expected {tuple(built.shape)} whole numbers, found {tuple(value.shape)}")
    if value.min() < 0 or value.max() > 1 << 37 or value.double().sum(-1).max() > 1 << 37:
        raise FormatError(f"{name}: counts of at least 0 are expected, of 2^37 at most in a row")


def _refuse_sizes(config: Any, name: str = "") -> None:
    """Refuse sizes that no frozen model has, before lists are made of them."""
    if isinstance(config, dict):
        for key, value in config.items():
            _refuse_sizes(value, key)
    elif isinstance(config, list):
        if name == "shape" and (len(config) > 64 or math.prod(config) > MODEST):
            raise FormatError(f"examples of {len(config)} dimensions and more than {MODEST} values are not expected")
        for value in config:
            _refuse_sizes(value, name)
    elif isinstance(config, int) and config > MODEST and name != "seed":
        raise FormatError(f"{name}: at most {MODEST} is expected, found {config}")


class _Eager(TorchDispatchMode):
    """A mode that does not import torch's compiler, which would take most of the time of loading a model."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _Modest(_Eager):
    """Refuse to make more than so many elements: a configuration is not to be believed before its numbers are there."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        sizes = [math.prod(a) for a in args if isinstance(a, list | tuple) and all(isinstance(n, int) for n in a)]
        if not tensors:
            sizes += [a for a in args if isinstance(a, int)]  # arange, randperm
        elif torch.Tag.pointwise in func.tags:
            sizes.append(math.prod(torch.broadcast_shapes(*(tensor.shape for tensor in tensors))))
        elif func.overloadpacket.__name__ == "repeat":
            sizes = [tensors[0].numel() * size for size in sizes]
        self.left -= max([1 << 10, *sizes])
        if self.left < 0:
            raise FormatError("the configuration asks for far more numbers than the file holds")
        return func(*args, **(kwargs or {}))


class _Portable(_Eager):
    """Refuse operations between the leaves whose results differ from machine to machine."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")
        if not self.inside and any(isinstance(a, Tensor) and a.is_floating_point() for a in args):
            scaled = name in ("add", "sub", "rsub") and kwargs.get("alpha", 1) != 1
            if scaled or name not in PORTABLE:
                raise InputError(
                    f"this network cannot be frozen: between its leaf layers it uses {name}"
                    + (" with a factor" if scaled else "")
                    + ", whose result differs from machine to machine"
                )
        return func(*args, **kwargs)


@contextmanager
def _portable(model: nn.Module) -> Iterator[None]:
    """Hold everything outside the exact leaves to portable operations."""
    guard, hooks = _Portable(), []

    def enter(module: nn.Module, inputs: tuple) -> None:
        guard.inside += 1

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        guard.inside -= 1

    for module in model.modules():
        if isinstance(module, exact.LEAVES):
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with guard:
            yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _rehearse(frozen: Frozen, x: Tensor, context: Tensor | None) -> None:
    """Run every part of the frozen model under guard, both views of what has two, and hold those against each other.

    Raises:
        InputError: an operation that is not portable, or steps that differ from the parallel pass.
    """
    if isinstance(frozen.model, LatentVariable):
        _rehearse_latents(frozen.model, x)
    else:
        assert isinstance(frozen.model, Autoregressive)
        _rehearse_steps(frozen.model, x, context)


def _rehearse_latents(model: LatentVariable, x: Tensor) -> None:
    parts = torch.zeros(len(x), *model.prior.event.shape, dtype=torch.int64)
    for density, given in ((model.encoder, x), (model.prior, None)):
        if isinstance(density, Autoregressive):
            _rehearse_steps(density, parts, given)
        elif density is not None:
            with _portable(model):  # a density may borrow layers of another
                push_latents(density, Stack(), pop_latents(density, Stack(), len(x), given, len(x)), given, len(x))
    with _portable(model):
        z = latents(model.prior, parts)
    decoder = model.decoder
    if isinstance(decoder, OfLowestLayer):
        decoder, z = decoder.decoder, z[:, : decoder.size]
    assert isinstance(decoder, Autoregressive)
    _rehearse_steps(decoder, x, z)


def _rehearse_steps(model: Autoregressive, x: Tensor, context: Tensor | None) -> None:
    for order in range(model.orders):
        with _portable(model):
            parallel = model._conditionals(x, context, order)
            differ = []

            def choose(where: Any, p: Any, parallel: Any = parallel, differ: list = differ) -> Tensor:
                differ.append((where, p))
                return x[where]

            run(model._steps(len(x), context, order), choose)
        for where, p in differ:
            if not torch.equal(p.log_table(), parallel[where].log_table()):
                raise InputError(
                    f"{type(model).__name__} cannot be frozen: the conditional at {where[1:]} differs between its "
                    "steps and its parallel pass"
                )
