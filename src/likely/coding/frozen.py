"""`freeze` a fitted model: the same network with exact leaves, stored as integers, known by its hash."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from likely.coding.codecs import codec
from likely.coding.rans import Stack
from likely.data import Preparation
from likely.density import Autoregressive, Density, run
from likely.errors import FormatError, InputError, StoreError, UncodableError
from likely.latent.latent import LatentVariable, draw_terms
from likely.latent.layers import OfLowestLayer
from likely.nn.exact import ExactLeaf
from likely.nn.foreign import as_leaf
from likely.nn.leaf import own_state, with_state
from likely.rows import Examples, Rows
from likely.runs import store

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
        file = path / FROZEN if path.is_dir() else path
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            if not path.is_dir():
                raise StoreError(f"{path}: no such run or frozen model") from error
            if not (path / store.CONFIG).exists():
                raise StoreError(f"{path} is not a run") from error
            reason = store.refusal(path)
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
        path = Path(path)
        store.write_atomic(path / FROZEN if path.is_dir() else path, self.content)


def freeze(model: Density, calibration: Examples, *, preparation: Preparation | None = None) -> Frozen:
    """Bring a fitted model into exact arithmetic, with 16-bit weights and activations.

    Args:
        model: a density whose network is made of the library's leaf layers.
        calibration: data (n, *event.shape) like those to be coded, or a pair with their context; the first thousand
            are used. They fix the range of every layer's inputs; what lies beyond at coding time is clamped, which
            costs rate and never correctness.
        preparation: what turned raw data into symbols, kept with the frozen model.

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
    x, context = model.check_rows(Rows.of(calibration)[:EXAMPLES])
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


@torch.no_grad()
def _largest_inputs(model: Density, x: Tensor, context: Tensor | None) -> dict[str, float]:
    """Return the largest |input| of every leaf on the calibration data."""
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
        for start in range(0, len(x), 100):
            some, generator = Rows(x, context)[start : start + 100], torch.Generator(x.device).manual_seed(start)
            if isinstance(model, LatentVariable) and model.encoder is None:
                draw_terms(model, some.x, 1, generator, model.prior)
            else:
                model._log_prob(some.x, some.context, generator)
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
    _refuse_sizes(config)
    with _Modest(MODEST + 64 * sum(tensor.numel() for tensor in tensors.values())):
        model = store.build(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    left = dict(tensors)
    model = _exact(model.double(), "", left)
    if left:
        raise FormatError(f"the frozen model holds {', '.join(sorted(left))}, which its class does not have")
    return model


def _exact(module: Any, name: str, left: dict[str, Tensor]) -> Any:
    """Return the module with the exact twin of every leaf in it, taking the numbers that these use out of `left`."""
    for child_name, child in list(module.named_children()):
        setattr(module, child_name, _exact(child, _full_name(name, child_name), left))
    leaf = as_leaf(module)
    if leaf is None:
        return with_state(module, _taken(name, own_state(module), left))
    stored = _taken(name, leaf.quantize(0.0), left)
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
    if built.dtype == torch.int64 and built.ndim and built.shape[-1] > 1:
        inside = torch.arange(built.shape[-1]).expand(built.shape)
        if torch.equal(built.sort(-1)[0], inside) and not torch.equal(value.sort(-1)[0], inside):
            raise FormatError(f"{name}: orders of 0 to {built.shape[-1] - 1} are expected")


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
        self.left -= max([1 << 12, *sizes])
        if self.left < 0:
            raise FormatError("the configuration asks for far more numbers than the file holds")
        return func(*args, **(kwargs or {}))


class _Portable(_Eager):
    """Refuse operations between the leaves whose results differ from machine to machine."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []  # names of the modules that run, the innermost last
        self.exact = 0  # how many of them are exact leaves

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.exact and any(isinstance(a, Tensor) and a.is_floating_point() for a in args):
            name = func.overloadpacket.__name__.rstrip("_")
            scaled = name in ("add", "sub", "rsub") and kwargs.get("alpha", 1) != 1
            if scaled or name not in PORTABLE:
                self._refuse(name + " with a factor" * scaled)
        return func(*args, **kwargs)

    def _refuse(self, operation: str) -> None:
        place = f" in {self.open[-1]}" if self.open else ""
        raise InputError(
            f"this network cannot be frozen: between its leaf layers{place} it uses {operation}, whose result "
            "differs from machine to machine"
        )


@contextmanager
def _portable(model: nn.Module) -> Iterator[None]:
    """Hold everything outside the exact leaves to portable operations."""
    guard, hooks = _Portable(), []

    def watch(name: str, module: nn.Module) -> None:
        exact = isinstance(module, ExactLeaf)

        def enter(module: nn.Module, inputs: tuple) -> None:
            guard.open.append(f"{name} ({type(module).__name__})")
            guard.exact += exact

        def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
            guard.open.pop()
            guard.exact -= exact

        hooks.extend((module.register_forward_pre_hook(enter), module.register_forward_hook(leave)))

    for name, module in model.named_modules():
        watch(name, module)
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
    numbers = torch.zeros(len(x), *model.prior.event.shape, dtype=torch.int64)
    for density, given in ((model.encoder, x), (model.prior, None)):
        if isinstance(density, Autoregressive):
            _rehearse_steps(density, numbers, given)
        elif density is not None:
            own = codec(density, len(x))
            with _portable(model):  # a density may borrow layers of another
                own.push(Stack(), own.pop(Stack(), len(x), given), given)
    with _portable(model):
        z = codec(model.prior, len(x)).values(numbers)
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
