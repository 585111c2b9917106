"""Frozen models: what they lose, the same integers in every view, and files that lie."""

import copy
import json
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import jaxtyping
import numpy as np
import pytest
import safetensors.torch
import torch
from frozen_models import NAMES, contexts, drawn, frozen, frozen_after_fit, redrawn, trained
from torch import Tensor, nn
from work import calls_below

from likely.autoregressive import MADE, GatedPixelCNN
from likely.classical import Histogram, IndependentPixels
from likely.coding.frozen import FROZEN, METADATA, Frozen, freeze
from likely.data import Preparation
from likely.density import Autoregressive, Density, Steps, run
from likely.distributions.frequencies import BITS, Frequencies, digits
from likely.errors import Error, FormatError, InputError, StoreError
from likely.event import Event
from likely.laws.case import Case
from likely.nn import CategoricalHead, Gate, ReLU, Symbols
from likely.nn.foreign import as_leaf
from likely.runs.store import CONFIG

TRAINED = [
    "made 3x8, vector, 3 orderings",
    "made mixed table, label",
    "pixelcnn 3x8, label",
    "pixelcnn RGB 1x2x4, logistics, label",
    "histogram mixed table, label",
    "independent pixels, mixed table, label",
    "symbol histogram 3x8, label",
]
PAIRS = [(redrawn, frozen, name) for name in NAMES] + [(trained, frozen_after_fit, name) for name in TRAINED]
BY_NAME = pytest.mark.parametrize(
    ("model", "exact", "name"), PAIRS, ids=[f"{name}, {model.__name__}" for model, _, name in PAIRS]
)


@BY_NAME
def test_freezing_loses_a_hundredth_of_a_percent_at_most(model, exact, name):
    """Over the model's own draws, mean log p of the two differ by 10⁻⁴ of it.

    The mean difference estimates the Kullback-Leibler divergence d. With single differences of some 10⁻³ nats, d is
    their variance's half, below 10⁻⁵ nats; what is seen is the estimate's own noise, a standard error of some 10⁻⁵ of
    log p with 512 draws. 10⁻⁴ is ten of those.
    """
    original = copy.deepcopy(model(name)).double()
    x, context = drawn(original, 512 if original.event.dims < 100 else 64, seed=7)
    with torch.no_grad():
        expected, found = original.log_prob(x, context), exact(name).model.log_prob(x, context)
    assert found.dtype == torch.float64
    assert abs((found - expected).mean()) <= 1e-4 * abs(expected.mean())


@BY_NAME
def test_both_views_have_the_same_integers_at_every_batch_size(model, exact, name):
    density = exact(name).model
    n = 64 if density.event.dims < 100 else 16
    x, context = drawn(density, n, seed=8)
    for order in range(density.orders):
        whole = density._conditionals(x, context, order)
        for rows in (slice(None), slice(n - 7, n), slice(3, 4)):
            part = None if context is None else context[rows]
            assert (units(density._conditionals(x[rows], part, order)) == units(whole[rows])).all()
            compare_steps(density, x[rows], part, order, whole[rows])


def compare_steps(density: Autoregressive, x: Tensor, context: Tensor | None, order: int, parallel: Frequencies):
    visited = torch.zeros(density.event.shape, dtype=torch.int64)

    def choose(where, p):
        assert (units(p) == units(parallel[where])).all()
        visited[where[1:]] += 1
        return x[where]

    assert torch.equal(run(density._steps(len(x), context, order), choose), x)
    assert (visited == 1).all()


def units(p: Frequencies) -> Tensor:
    """F at 0, at the alphabet's size, and at some fifteen edges between."""
    edges = torch.arange(p.levels + 1)[:: max(1, p.levels // 16)]
    edges = torch.cat([edges, torch.tensor([p.levels])])
    return p.below(edges.expand(*p.shape, len(edges)))


SMALL = [name for name in NAMES if math.prod(redrawn(name).event.alphabets) <= 4096]


@pytest.mark.parametrize("name", SMALL)
def test_probabilities_of_all_states_add_up_to_one_exactly(name):
    """As fractions: a state's probability is a product of widths over powers of 2²⁴."""
    assert len(SMALL) > 12
    density = frozen(name).model
    x = torch.cartesian_prod(*(torch.arange(levels) for levels in density.event.alphabets))
    x = x.view(-1, *density.event.shape)
    for order in range(density.orders):
        context = contexts(density, 1)
        context = None if context is None else context.expand(len(x), *context.shape[1:])
        widths = [width.flatten(1) for _, width in digits(density._conditionals(x, context, order), x)]
        widths = torch.cat(widths, 1)
        assert (widths >= 1).all()
        states = np.prod(np.array(widths.tolist(), object), 1)
        assert Fraction(int(states.sum()), 1 << (BITS * widths.shape[1])) == 1
        logs = np.array([math.log2(state) for state in states]) - BITS * widths.shape[1]
        if density.orders == 1:
            np.testing.assert_allclose(density.log_prob(x, context).numpy(), logs * math.log(2), atol=1e-9)


def test_a_fresh_process_loads_the_same_model(tmp_path):
    """Its id and every bit of log_prob."""
    script = """
import sys, torch
from safetensors.torch import load_file
from likely.coding.frozen import Frozen
for i in range(int(sys.argv[2])):
    frozen, given = Frozen.load(f"{sys.argv[1]}/{i}.frozen"), load_file(f"{sys.argv[1]}/{i}.data")
    print(frozen.id.hex(), frozen.model.log_prob(given["x"], given.get("context")).numpy().tobytes().hex())
"""
    expected = []
    for i, name in enumerate(NAMES):
        model = frozen(name)
        x, context = drawn(model.model, 9, seed=3)
        model.save(tmp_path / f"{i}.frozen")
        given = {"x": x} | ({} if context is None else {"context": context.contiguous()})
        safetensors.torch.save_file(given, tmp_path / f"{i}.data")
        expected.append(f"{model.id.hex()} {model.model.log_prob(x, context).numpy().tobytes().hex()}")
    command = [sys.executable, "-c", script, str(tmp_path), str(len(NAMES))]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert found == expected


def test_a_run_keeps_its_frozen_model(tmp_path):
    model = frozen("made mixed table, label")
    model.save(tmp_path)
    assert (tmp_path / FROZEN).read_bytes() == model.content
    assert Frozen.load(tmp_path).id == Frozen.load(str(tmp_path / FROZEN)).id == model.id
    (tmp_path / FROZEN).unlink()
    with pytest.raises(StoreError, match="is not a run"):
        Frozen.load(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(StoreError, match="likely freeze"):
        Frozen.load(tmp_path)
    with pytest.raises(StoreError, match="no such run"):
        Frozen.load(tmp_path / "nothing")


def test_nothing_is_unpickled(monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a pickle was read")

    for module, name in (
        *((pickle, name) for name in ("load", "loads", "Unpickler")),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, refuse)
    Frozen(frozen("pixelcnn 3x8, label").content)


def test_freezing_leaves_the_model_alone():
    model = redrawn("made 4x4 binary, 2 orderings")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    freeze(model, drawn(model, 16)[0])
    assert model.training
    model.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_freezing_twice_gives_the_same_bytes():
    model = redrawn("pixelcnn 3x8, label")
    assert freeze(model, drawn(model, 256)).content == frozen("pixelcnn 3x8, label").content


def test_the_preparation_is_kept():
    model = Histogram(Event((1, 2, 2), 3))
    preparation = Preparation("hw", 3, None, 2.0)
    made = freeze(model, torch.zeros(3, 1, 2, 2, dtype=torch.int64), preparation=preparation)
    assert Frozen(made.content).preparation == preparation
    assert Frozen(freeze(model, torch.zeros(3, 1, 2, 2, dtype=torch.int64)).content).preparation is None


def test_data_beyond_calibration_are_coded_alike_in_both_views():
    """Calibrated on a single state and on contexts near 0, then used on everything else."""
    model = redrawn("pixelcnn 3x8, logistics, vector")
    made = freeze(model, (torch.zeros(4, 1, 3, 1, dtype=torch.int64), 1e-3 * torch.ones(4, 2)))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(8, (20, 1, 3, 1), generator=generator)
    context = 100 * torch.randn(20, 2, generator=generator)
    whole = made.model._conditionals(x, context, 0)
    compare_steps(made.model, x, context, 0, whole)
    assert made.model.log_prob(x, context).isfinite().all()


# Networks without an exact twin.


class Chain(Autoregressive):
    """p(x) = ∏ p(x_i | x_{i−1}), with something in the middle of its network."""

    def __init__(self, event: Event, middle: str = "relu") -> None:
        super().__init__(event)
        self.middle = middle
        self.symbols = Symbols(event.levels)
        self.first, self.last = nn.Linear(self.symbols.width, 4), nn.Linear(4, event.levels)
        self.head = CategoricalHead((event.levels,) * event.dims)
        self.relu, self.gate = ReLU(), Gate(2)
        if middle == "bare parameter":
            self.bare = nn.Parameter(torch.ones(4))
        if middle in LAYERS:
            self.layer = LAYERS[middle]()

    def network(self, h: Tensor) -> Tensor:
        h = self.first(h)
        h = self.layer(h) if self.middle in LAYERS else MIDDLES[self.middle](self, h)
        return self.last(h)

    def _conditionals(self, x, context, order):
        h = self.symbols(x[..., None])
        h = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        return self.head(self.network(h).flatten(1))

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, self.event.dims, dtype=torch.int64)
        for i in range(self.event.dims):
            h = self.symbols(x[:, i - 1 : i or self.event.dims, None])
            h = h[:, -1:] * float(i > 0 or self.middle == "other steps")
            x[:, i] = yield (slice(None), i), self.head(self.network(h).flatten(1))[:, 0]
        return x


class SigmoidLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


class PaddedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h.movedim(-1, 1)[..., None])[..., 0].movedim(1, -1)


class Normed(nn.Module):
    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, affine=affine)

    def forward(self, h: Tensor) -> Tensor:
        return self.norm(h.movedim(-1, 1)).movedim(1, -1)


LAYERS = {
    "self-padding convolution": PaddedConv,
    "batch norm": lambda: Normed(True),
    "batch norm without weights": lambda: Normed(False),
    "layer norm": lambda: nn.LayerNorm(4),
    "layer norm without weights": lambda: nn.LayerNorm(4, elementwise_affine=False),
    "gelu": nn.GELU,
    "softmax layer": lambda: nn.Softmax(-1),
    "inherited linear": lambda: SigmoidLinear(4, 4),
}
MIDDLES = {
    "nothing": lambda model, h: h,
    "relu": lambda model, h: model.relu(h),
    "gate": lambda model, h: torch.cat([model.gate(h), 1 - model.gate(-h).abs()], -1),
    "other steps": lambda model, h: h,
    "arithmetic": lambda model, h: (h * 3 + h.abs().sqrt() / 7 - (h * h).clamp(max=2)).where(h > 0, h.floor()),
    "bare parameter": lambda model, h: h + model.bare,
    "sigmoid": lambda model, h: torch.sigmoid(h),
    "softmax": lambda model, h: h.softmax(-1),
    "log_softmax": lambda model, h: torch.log_softmax(h, -1),
    "einsum": lambda model, h: torch.einsum("nmi,ji->nmj", h, torch.eye(4, dtype=h.dtype)),
    "matmul": lambda model, h: h @ torch.eye(4, dtype=h.dtype),
    "add with a factor": lambda model, h: h.add(h, alpha=2),
    "subtract with a factor": lambda model, h: torch.sub(h, h, alpha=0.5),
    "addcmul": lambda model, h: torch.addcmul(h, h, h),
    "lerp": lambda model, h: torch.lerp(h, h + 1, 0.3),
    "sum": lambda model, h: h + h.sum(-1, keepdim=True),
    "mean": lambda model, h: h - h.mean(-1, keepdim=True),
    "cumsum": lambda model, h: h.cumsum(-1),
    "norm": lambda model, h: h / h.norm(dim=-1, keepdim=True),
    "exp": lambda model, h: h.exp(),
    "tanh": lambda model, h: h.tanh_(),
    "pow": lambda model, h: h.abs() ** 1.5,
    "rsqrt": lambda model, h: (h.abs() + 1).rsqrt(),
    "silu": lambda model, h: nn.functional.silu(h),
}
REFUSED = {  # what its error names
    "bare parameter": "bare",
    "self-padding convolution": "inner",
    "batch norm": "norm",
    "batch norm without weights": "batch_norm",
    "layer norm": "layer",
    "layer norm without weights": "layer_norm",
    "gelu": "gelu",
    "softmax layer": "softmax",
    "inherited linear": "layer",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "einsum": "bmm|mm|einsum",
    "matmul": "mm|matmul",
    "add with a factor": "add with a factor",
    "subtract with a factor": "sub with a factor",
    "addcmul": "addcmul",
    "lerp": "lerp",
    "sum": "sum",
    "mean": "mean",
    "cumsum": "cumsum",
    "norm": "norm",
    "exp": "exp",
    "tanh": "tanh",
    "pow": "pow",
    "rsqrt": "rsqrt",
    "silu": "silu",
    "other steps": r"conditional at \(0,\) differs",
}


def chain(middle: str) -> Chain:
    return Case(Chain(Event((3,), 5), middle)).redrawn.eval()


@pytest.mark.parametrize("middle", ["nothing", "relu", "gate", "arithmetic"])
def test_portable_networks_freeze(middle):
    model = chain(middle)
    made = freeze(model, torch.randint(5, (50, 3), generator=torch.Generator().manual_seed(0)))
    x = torch.cartesian_prod(*[torch.arange(5)] * 3)
    expected = copy.deepcopy(model).double().log_prob(x)
    assert abs((expected.exp() * (made.model.log_prob(x) - expected)).sum()) < 1e-4
    compare_steps(made.model, x, None, 0, made.model._conditionals(x, None, 0))


@pytest.mark.parametrize("middle", REFUSED)
def test_other_networks_are_refused_by_name(middle):
    with pytest.raises(InputError, match=REFUSED[middle]) as error:
        freeze(chain(middle), torch.randint(5, (50, 3), generator=torch.Generator().manual_seed(0)))
    assert "cannot be frozen" in str(error.value)


class Normal(Density):
    def _log_prob(self, x, context, generator):
        return -0.5 * (x * x).flatten(1).sum(1)

    def _sample(self, n, context, generator):
        return torch.randn(n, *self.event.shape, generator=generator)


def test_densities_that_are_not_autoregressive_are_not_implemented():
    with pytest.raises(NotImplementedError, match="Normal cannot be frozen"):
        freeze(Normal(Event((2,))), torch.zeros(3, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["last.weight", "first.bias", "symbols.weight"])
def test_weights_that_are_not_finite_are_refused(name, value):
    model = chain("relu")
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = value
    with pytest.raises(InputError, match=name):
        freeze(model, torch.zeros(3, 3, dtype=torch.int64))


def test_calibration_must_be_data_of_the_model(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user, whose types are not checked
    model = redrawn("made mixed table, label")
    x, context = drawn(model, 5)
    for wrong in (
        (x + 20, context),
        (x[:, :2], context),
        (x, context[:3]),
        (x, context + 3),
        x,
        None,
        (None, context),
        x.tolist(),
    ):
        with pytest.raises(InputError):
            freeze(model, wrong)


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_says_without_computing_what_it_stores(name):
    for leaf in filter(None, map(as_leaf, redrawn(name).modules())):
        blank, stored = leaf.blank(), leaf.quantize(1.0)
        assert blank.keys() == stored.keys()
        for key, value in stored.items():
            assert (blank[key].shape, blank[key].dtype) == (value.shape, value.dtype)
            assert blank[key].is_meta or torch.equal(blank[key], value) or value.dtype != torch.int64


def test_loading_imports_neither_sympy_nor_the_compiler(tmp_path):
    """Either would take most of the time of a command."""
    frozen("pixelcnn 3x8, label").save(tmp_path / FROZEN)
    script = """
import sys
from likely.coding.frozen import Frozen
for name in ("sympy", "torch._dynamo"):
    sys.modules[name] = None  # from here on importing it is an error
Frozen.load(sys.argv[1])
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Files that are damaged or lie.

CALLS = 2_000_000  # an honest model of these takes 100,000
SUBJECTS = ["histogram 2x3 binary", "made 4x4 binary, 2 orderings", "pixelcnn 3x8, logistics, vector"]


def loads_or_says_so(content: bytes) -> bool:
    """Whether it loads; the only other way out is an error of the store. What loads has another id, and codes."""
    try:
        with calls_below(CALLS):
            made = Frozen(content)
    except StoreError:
        return False
    x, context = drawn(made.model, 3)
    assert made.model.log_prob(x, context).isfinite().all()
    return True


@pytest.mark.parametrize("name", SUBJECTS)
def test_truncated_files_are_damaged(name):
    content = frozen(name).content
    for length in [*range(0, 200, 7), *range(200, len(content), max(1, len(content) // 60)), len(content) - 1]:
        with pytest.raises(FormatError):
            Frozen(content[:length])
    with pytest.raises(FormatError):
        Frozen(content + b"\0")


@pytest.mark.parametrize("name", SUBJECTS)
def test_flipped_bits_are_damage_or_another_model(name):
    model = frozen(name)
    content, random = model.content, np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    loaded = 0
    for start, stop, times in ((0, 8, 30), (8, header, 100), (header, len(content), 30)):
        for position in random.integers(start, stop, times):
            changed = bytearray(content)
            changed[position] ^= 1 << random.integers(8)
            if loads_or_says_so(bytes(changed)):
                assert Frozen(bytes(changed)).id != model.id
                loaded += 1
    assert loaded > 0  # a flipped weight is another model; which one is coded with is for the id to say


def parts(content: bytes) -> tuple[dict, dict[str, Tensor]]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"][METADATA]), safetensors.torch.load(content)


def forged(described: object, tensors: dict[str, Tensor]) -> bytes:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(tensors, {METADATA: json.dumps(described)})


def test_what_is_not_forged_loads():
    for name in SUBJECTS:
        assert loads_or_says_so(forged(*parts(frozen(name).content)))


DTYPES = (torch.float64, torch.float16, torch.int32, torch.int64)


@pytest.mark.parametrize("name", SUBJECTS[:2])
def test_tensors_of_another_kind_or_shape_are_refused(name):
    described, tensors = parts(frozen(name).content)
    for key, tensor in tensors.items():
        others = [tensor.to(dtype) for dtype in (*DTYPES, torch.complex64)]
        others = [other for other in others if other.dtype != tensor.dtype]
        for other in others:
            floats = tensor.is_floating_point() and other.is_floating_point()
            assert loads_or_says_so(forged(described, tensors | {key: other})) == floats
        for shape in (tensor[None], tensor.flatten()[:0], tensor.flatten()[:1].expand(3, 5, 7)):
            with pytest.raises(FormatError):
                Frozen(forged(described, tensors | {key: shape}))
        with pytest.raises(FormatError, match="missing"):
            Frozen(forged(described, {k: v for k, v in tensors.items() if k != key}))
    with pytest.raises(FormatError, match="unheard"):
        Frozen(forged(described, tensors | {"unheard": torch.ones(2)}))


@pytest.mark.parametrize("name", SUBJECTS)
def test_numbers_out_of_their_range_are_refused(name):
    described, tensors = parts(frozen(name).content)
    for key, tensor in tensors.items():
        kind = key.rpartition(".")[2]
        wrong = {
            "bias": [1 << 53, -(1 << 63), (1 << 63) - 1],
            "exponent": [30_000, -30_000, 1000],
            "grid": [30_000, -32_768],
            "weight": [math.nan, math.inf] if tensor.is_floating_point() else [],
            "mean": [math.nan, math.inf],
            "deviation": [math.nan, math.inf],
            "table": [-1, 1 << 62, -(1 << 63)],
            "ordering": [-1, 99, 1 << 40],
            "input_orders": [-1, 10_000],
            "output_orders": [-1, 10_000],
        }[kind]
        for value in wrong:
            changed = tensor.clone()
            changed.view(-1)[-1] = value
            with pytest.raises(FormatError):
                Frozen(forged(described, tensors | {key: changed}))


NESTED: list = []
for _ in range(500):
    NESTED = [NESTED]
HUGE = 10**9
MADE_EVENT = {"class": "likely.Event", "arguments": {"shape": [3], "levels": 8}}
FORGERIES = {
    "no metadata": lambda d: {},
    "a list": lambda d: [d],
    "null": lambda d: None,
    "another format": lambda d: d | {"format": "likely-frozen/2"},
    "no model": lambda d: d | {"model": None},
    "a number for a model": lambda d: d | {"model": 3},
    "nested": lambda d: d | {"model": NESTED},
    "an event for a model": lambda d: d | {"model": MADE_EVENT},
    "a foreign class": lambda d: d | {"model": {"class": "os.system", "arguments": {"command": "true"}}},
    "an abstract class": lambda d: d | {"model": {"class": "likely.Density", "arguments": {}}},
    "a class of no name": lambda d: d | {"model": {"class": ["likely.MADE"], "arguments": {}}},
    "another class": lambda d: changed(d, "class", "likely.IndependentPixels"),
    "arguments of a list": lambda d: d | {"model": {"class": "likely.MADE", "arguments": []}},
    "no event": lambda d: argument(d, event=None),
    "an event of text": lambda d: argument(d, event="likely.Event"),
    "an unknown argument": lambda d: argument(d, unknown=1),
    "a preparation of text": lambda d: d | {"preparation": "hw"},
    "a preparation of nothing": lambda d: d | {"preparation": {}},
    "text for units": lambda d: argument(d, hidden="8"),
    "units of text": lambda d: argument(d, hidden=["8"]),
    "no units": lambda d: argument(d, hidden=[0]),
    "half a unit": lambda d: argument(d, hidden=[0.5]),
    "a billion units": lambda d: argument(d, hidden=[HUGE]),
    "a billion units twice": lambda d: argument(d, hidden=[HUGE, HUGE]),
    "10^5 units twice": lambda d: argument(d, hidden=[10**5, 10**5]),
    "a billion orderings": lambda d: argument(d, orderings=HUGE),
    "a billion features": lambda d: argument(d, features=HUGE),
    "an endless seed": lambda d: argument(d, seed=10**40),
    "a billion symbols": lambda d: event(d, levels=HUGE),
    "10^18 symbols": lambda d: event(d, levels=10**18),
    "no symbols": lambda d: event(d, levels=0),
    "symbols below none": lambda d: event(d, levels=-4),
    "symbols of text": lambda d: event(d, levels="8"),
    "half a symbol": lambda d: event(d, levels=2.5),
    "a billion places": lambda d: event(d, shape=[HUGE]),
    "10^27 places": lambda d: event(d, shape=[HUGE] * 3),
    "10^7 places": lambda d: event(d, shape=[10**7]),
    "places of text": lambda d: event(d, shape="3"),
    "places below none": lambda d: event(d, shape=[-3]),
    "a million dimensions": lambda d: event(d, shape=[1] * 10**6),
}


def changed(described: dict, key: str, value: object) -> dict:
    return described | {"model": described["model"] | {key: value}}


def argument(described: dict, **values: object) -> dict:
    return changed(described, "arguments", described["model"]["arguments"] | values)


def event(described: dict, **values: object) -> dict:
    old = described["model"]["arguments"]["event"]
    return argument(described, event=old | {"arguments": old["arguments"] | values})


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_descriptions_are_refused_at_once(name):
    described, tensors = parts(frozen("made 3x8, vector, 3 orderings").content)
    content = forged(FORGERIES[name](described), tensors)
    with calls_below(CALLS), pytest.raises(StoreError):
        Frozen(content)


@pytest.mark.parametrize(
    "values",
    [
        {"channels": HUGE},
        {"channels": 10**5},
        {"layers": HUGE},
        {"layers": 10**7},
        {"components": HUGE},
        {"kernel": 10**6 + 1},
    ],
    ids=str,
)
def test_forged_convolutions_are_refused_at_once(values):
    described, tensors = parts(frozen("pixelcnn 3x8, logistics, vector").content)
    content = forged(argument(described, **values), tensors)
    with calls_below(CALLS), pytest.raises(StoreError):
        Frozen(content)


def test_forgeries_take_no_memory():
    """All of them in a process of its own; at most 300 MB more than an honest model takes."""
    script = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import test_frozen as t
described, tensors = t.parts(t.frozen("made 3x8, vector, 3 orderings").content)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for forgery in t.FORGERIES.values():
    try:
        t.Frozen(t.forged(forgery(described), tensors))
    except t.StoreError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 100, b"{}", b"\x80\x04." * 50, b"PK\x03\x04" * 50])
def test_what_is_no_frozen_model_is_said_to_be_none(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FormatError, match="no frozen model"):
        Frozen.load(tmp_path / "file")


def test_headers_of_safetensors_that_lie():
    content = frozen("histogram 2x3 binary").content
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    data = content[8 + int.from_bytes(content[:8], "little") :]
    name = next(key for key in header if key != "__metadata__")
    for change in (
        {"dtype": "F64"},
        {"dtype": "I32"},
        {"dtype": "Q7"},
        {"shape": [1 << 40]},
        {"shape": [-1]},
        {"shape": []},
        {"data_offsets": [0, 1 << 40]},
        {"data_offsets": [8, 4]},
        {"data_offsets": [1, len(data)]},
    ):
        lie = json.dumps(header | {name: header[name] | change}).encode()
        assert not loads_or_says_so(len(lie).to_bytes(8, "little") + lie + data)
    for length in (0, 1, len(content), 1 << 32, (1 << 64) - 1):
        assert not loads_or_says_so(length.to_bytes(8, "little") + content[8:])


def test_a_changed_weight_is_another_model():
    model = frozen("made mixed table, label")
    described, whole = parts(model.content)
    ids = {model.id}
    tensors = {key: tensor for key, tensor in whole.items() if key != "ordering"}
    for key in tensors:
        changed = tensors[key].clone()
        changed.view(-1)[0] += 1
        ids.add(Frozen(forged(described, whole | {key: changed})).id)
    assert len(ids) == len(tensors) + 1


def test_errors_are_the_librarys():
    assert issubclass(FormatError, StoreError)
    assert issubclass(StoreError, Error)


def test_every_family_freezes():
    families = {type(redrawn(name)) for name in NAMES}
    assert {MADE, GatedPixelCNN, Histogram, IndependentPixels} < families
