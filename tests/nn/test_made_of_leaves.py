"""Every network of the catalogue is made of leaf layers alone, and a leaf of one's own lives like the library's."""

import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import likely
from likely import Event
from likely.catalogue import models
from likely.density import Autoregressive, Density, Steps, seeded
from likely.distributions import Discrete
from likely.errors import InputError
from likely.flows import Transform
from likely.flows.transforms.conditioner import ImageView, VectorView
from likely.nn import CategoricalHead, ExactLeaf, Leaf, Linear, MaskedLinear, Symbols, Walk
from likely.nn.foreign import as_leaf
from likely.nn.values import ChannelsLast, DepthToSpace, SpaceToDepth

EVENTS = [Event((5,), 3), Event((1, 8, 8), 4), Event((3,))]
MOVEMENTS = (nn.Sequential, nn.ModuleList, nn.Flatten, nn.Unflatten)  # nothing is computed in them
MOVEMENTS += (ChannelsLast, DepthToSpace, SpaceToDepth, ImageView, VectorView)


def not_leaves(model: nn.Module) -> list[str]:
    """The modules with weights of their own, or from elsewhere, that are no leaves, by their paths.

    Densities and transforms may have parameters: these are not the weights of a network.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, (Density, Transform, *MOVEMENTS)) or as_leaf(module) is not None:
            continue
        weights = list(module.named_parameters(recurse=False))
        if weights or not type(module).__module__.startswith("likely."):
            found.append(f"{name} ({type(module).__name__})")
    return found


def built(name: str) -> list[Density]:
    found = []
    for event in EVENTS:
        try:
            found.append(models()[name](event))
        except InputError:  # an event that the model does not take
            continue
    return found


@pytest.mark.parametrize("name", models())
def test_networks_are_made_of_leaves(name):
    instances = built(name)
    assert instances
    for model in instances:
        assert not_leaves(model) == []


def test_a_part_that_is_no_leaf_is_named():
    model = likely.VAE(EVENTS[0], latent=2)
    model.encoder.body.append(nn.BatchNorm1d(4))
    assert not_leaves(model) == ["encoder.body.7 (BatchNorm1d)"]


# A leaf of one's own: nothing else in the library knows it.


class Half(Leaf):
    """y = W ⌊x / 2⌋ + x, a leaf that is not in the library."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight * x.cos()

    def quantize(self, largest: float) -> dict[str, Tensor]:
        return {"weight": (self.weight.detach() * 1024).round().short()}

    def exact(self, stored: dict[str, Tensor]) -> nn.Module:
        return ExactHalf(stored["weight"])


class ExactHalf(ExactLeaf):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.double() / 1024)
        self.register_buffer("table", (torch.arange(-4096, 4097).double() / 256).cos().mul(1024).round() / 1024)

    def forward(self, x: Tensor) -> Tensor:
        place = (x * 256).round().clamp(-4096, 4096).long() + 4096
        return x + self.weight * self.table[place]


class Mine(Autoregressive):
    """p(x) = ∏ p(x_i | x_<i), with a leaf of its own between two of the library's."""

    leaf: type[nn.Module] = Half

    def __init__(self, event: Event, *, width: int = 12, seed: int = 0) -> None:
        super().__init__(event)
        self.width, self.seed = width, seed
        with seeded(seed):
            self.symbols, self.head = Symbols(event.levels), CategoricalHead(event.alphabets)
            reach = torch.arange(width) * (event.dims - 1) // width + 1
            self.first = MaskedLinear(reach * self.symbols.width, event.dims * self.symbols.width)
            self.own = self.leaf(1)
            seen = torch.searchsorted(reach, torch.arange(event.dims), right=True)
            self.last = MaskedLinear(seen.repeat_interleave(self.head.width), width)

    def network(self, x, features=None, cache=None):
        hidden = self.own(self.first(self.symbols(x), features, cache))
        return self.last(hidden, features, cache).unflatten(1, (-1, self.head.width))

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return self.head(self.network(x).flatten(1))

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, self.event.dims, dtype=torch.int64)
        walk = Walk(self.network, self.event.dims, x[:, :0])
        for places, parameters in walk:
            for k, place in enumerate(range(places.start, places.stop)):
                x[:, place] = yield (slice(None), place), self.head(parameters[:, k])[:, 0]
            walk.newest = x[:, places]
        return x


def table(n: int = 60) -> Tensor:
    x = torch.randint(0, 3, (n, 4), generator=torch.Generator().manual_seed(0))
    x[:, 1] = x[:, 0]
    return x


def test_a_leaf_of_ones_own_is_fitted_frozen_and_codes():
    model, x = Mine(Event((4,), 3)), table()
    before = float(model.log_prob(x).detach().mean())
    likely.fit(model, x, budget="60 steps", learning_rate=0.02, holdout=0.0)
    assert float(model.log_prob(x).detach().mean()) > before
    frozen = likely.freeze(model, x)
    assert isinstance(frozen.model.own, ExactHalf)
    file = io.BytesIO()
    likely.compress(frozen, x.numpy(), file)
    assert np.array_equal(likely.decompress(io.BytesIO(file.getvalue()), frozen), x.numpy())


class Inexact(Half):
    """Its twin would be itself, which computes a cosine."""

    def exact(self, stored: dict[str, Tensor]) -> nn.Module:
        return self


class Weighing(nn.Module):
    """Weights outside a leaf."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Unportable(Mine):
    leaf = Inexact


class Weighted(Mine):
    leaf = Weighing


def test_what_cannot_be_frozen_is_named_with_its_path():
    with pytest.raises(InputError, match=r"between its leaf layers in own \(Inexact\) it uses cos"):
        likely.freeze(Unportable(Event((4,), 3)), table())
    with pytest.raises(
        InputError, match=r"own \(Weighing\) holds weights of its own \(weight\), and has no exact twin"
    ):
        likely.freeze(Weighted(Event((4,), 3)), table())


def test_layers_of_torch_freeze_as_the_librarys_do():
    class Torch(Mine):
        leaf = staticmethod(lambda width: nn.Sequential(nn.SiLU(), nn.Tanh()))

    frozen = likely.freeze(Torch(Event((4,), 3)), table())
    assert all(isinstance(part, ExactLeaf) for part in frozen.model.own)
    assert isinstance(as_leaf(nn.Linear(1, 1)), Linear)
