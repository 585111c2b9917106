"""MADE: a masked fully connected network."""

from functools import partial
from itertools import product

import torch
from torch import Tensor

from likely.density import Array, Autoregressive, Steps, seeded
from likely.distributions import Discrete
from likely.errors import InputError
from likely.event import Event
from likely.nn import Cache, CategoricalHead, ContextEncoder, ReLU, Symbols, Walk, masked_layers
from likely.nn.start import start_at_marginals
from likely.nn.values import take_units


class MADE(Autoregressive):
    """p(x) = ∏_i p(x_i | x_<i), every conditional from one masked multilayer perceptron.

    The masks are those of `likely.nn.masked_layers`. Several orderings share the same weights, each with masks of its
    own: training draws one ordering per batch, and the model is exactly their mixture p(x) = 1/K Σ_k p_k(x).

    Paper: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle, 2015),
    https://arxiv.org/abs/1502.03509

    Args:
        event: any discrete event; columns of a table may have alphabets of their own.
        context: the event that it is conditioned on, if any.
        hidden: units of each hidden layer; none gives a masked linear model.
        orderings: number of orderings in the mixture, the first the raster order and the others drawn at random.
        features: number of context features.
        seed: of the initial weights and of the orderings.
    """

    ordering: Tensor  # (orderings, dims)

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        hidden: tuple[int, ...] = (512, 512),
        orderings: int = 1,
        features: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        if not event.discrete:
            raise InputError(f"MADE models symbols, found an event of real values {event.shape}; give it levels")
        if min(orderings, features, *hidden) < 1:
            raise InputError(
                "hidden units, orderings and features must be at least 1, "
                f"found hidden={hidden}, orderings={orderings}, features={features}"
            )
        self.hidden, self.orderings, self.features, self.seed = tuple(hidden), orderings, features, seed
        self.orders = orderings
        with seeded(seed):
            self._build(event.dims)

    def _build(self, dims: int) -> None:
        shuffled = [torch.randperm(dims) for _ in range(self.orderings - 1)]
        self.register_buffer("ordering", torch.stack([torch.arange(dims), *shuffled]))
        features = self.encode = None
        if self.context is not None:
            features = self.features
            self.encode = ContextEncoder(self.context, features)
        self.symbols = Symbols(self.event.most_levels)
        self.head = CategoricalHead(self.event.alphabets)
        ordering = self.ordering if self.orderings > 1 else None
        self.layers, self.output = masked_layers(
            dims,
            self.symbols.width,
            self.hidden,
            self.head.width,
            features,
            ordering,
        )
        self.activation = ReLU()

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let the conditionals start at the marginals of every value, and a real context at its units, once."""
        x = self.check(x)
        start_at_marginals(self.head, self.output, x.reshape(len(x), -1))
        take_units(self, self.check_context(context, len(x)))

    def receptive_field(self) -> Tensor:
        """Return True where a conditional depends on a value wherever that is earlier, (dims, dims).

        With enough units it depends on all earlier values. A hidden layer of fewer than dims − 1 units lacks some
        degrees, and some dependences with them.
        """
        paths = self.output.mask.double()
        for layer in reversed(self.layers):
            paths = paths @ layer.get_buffer("mask").double()
        dims = self.event.dims
        later_first = torch.ones(dims, dims, dtype=torch.bool, device=paths.device).triu()
        blocks = paths.view(dims, self.head.width, dims, self.symbols.width)
        by_place = (blocks.amax((1, 3)) > 0) | later_first
        by_order = [by_place[rank][:, rank] for rank in self.ordering.argsort(1)]
        return torch.stack(by_order).all(0)

    def network(self, x: Tensor, features: Tensor | None = None, cache: Cache | None = None, order: int = 0) -> Tensor:
        """Return parameters of the conditionals (n, places, ·), from the symbols (n, places) in order."""
        h = self.symbols(x)
        for layer in self.layers:
            h = self.activation(layer(h, features, cache, order))
        flat = self.output(h, features, cache, order)
        return flat.unflatten(1, (-1, self.head.width))

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        x, features = x.reshape(len(x), -1), self._features(context)
        if order == 0:
            parameters = self.network(x, features)
        else:
            ordering = self.ordering[order]
            ordered = self.network(x[:, ordering], features, None, order)
            parameters = ordered[:, ordering.argsort()]
        return self.head(parameters.flatten(1)).reshape(len(x), *self.event.shape)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, self.event.dims, dtype=torch.int64, device=self.device)
        indices = list(product(*map(range, self.event.shape)))
        ordering = self.ordering[order].tolist()
        network = partial(self.network, order=order)
        walk = Walk(network, self.event.dims, x[:, :0], self._features(context))
        for places, parameters in walk:
            own = ordering[places]
            for k, place in enumerate(own):
                p = self.head(parameters[:, k], part=slice(place, place + 1))[:, 0]
                x[:, place] = yield (slice(None), *indices[place]), p
            walk.newest = x[:, own]
        return x.view(n, *self.event.shape)

    def _features(self, context: Tensor | None) -> Tensor | None:
        if self.encode is None:
            return None
        return self.encode(context)

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        order = 0
        if self.orders > 1:
            order = int(torch.randint(self.orders, (), generator=generator))
        return -self._conditionals(x, context, order).log_prob(x).mean()
