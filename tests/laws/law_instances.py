"""The table of instances that the laws run over, and a fit of twenty lines."""

from collections.abc import Callable

import torch
from torch import Tensor

from likely.autoregressive import MADE, GatedPixelCNN
from likely.classical import GaussianMixture, Histogram, IndependentPixels, SymbolHistogram
from likely.data.sources import Ising
from likely.densities.bases import Logistic, Normal, Uniform
from likely.density import Density
from likely.event import Event
from likely.flows import (
    FFJORD,
    IAF,
    MAF,
    NICE,
    Affine,
    AffineFlow,
    AutoregressiveMixtureCDF,
    Elementwise,
    Flow,
    FlowPlusPlus,
    Glow,
    MixtureCDF,
    NeuralAutoregressiveFlow,
    NeuralSplineCoupling,
    NeuralSplineFlow,
    RealNVP,
)
from likely.flows.dequantization import preprocessing
from likely.flows.maps.activation import LeakyReLU, Logit, Sigmoid
from likely.flows.maps.monotone import MonotoneLayer
from likely.flows.maps.spline import RationalQuadraticSpline
from likely.flows.transforms.coupling import Coupling
from likely.latent import (
    IAFVAE,
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    DiscreteVAE,
    HierarchicalVAE,
    Mixture,
    MixtureOf,
    PixelVAE,
    WakeSleep,
)
from likely.laws.case import examples, inside

VALUE, LINE, PLANE, SPACE = Event(()), Event((1,)), Event((2,)), Event((2, 3))
LABEL, VECTOR, PICTURE = Event((), levels=3), Event((2,)), Event((1, 1, 2), levels=4)
SMALL = {"channels": 6, "layers": 2, "first_kernel": 5, "features": 4}
LOGISTICS = {"head": "logistics", "components": 2}

PROMISES = {"samples fit", "one by one", "repeatable", "saved = loaded", "units", "refuse"}
ALWAYS = PROMISES | {
    "proper tables, float32",
    "proper tables, float64",
    "no leak",
    "one conditional, float32",
    "one conditional, float64",
    "same samples, float32",
    "same samples, float64",
    "possible symbols",
    "true samples",
}
SUMS, SIGHT, COST = {"proper, float32", "proper, float64"}, {"no blind spot"}, {"cost"}
NETWORK = ALWAYS | SIGHT | COST
REAL, AREA = PROMISES | {"true samples"}, {"integrates to one"}
BIJECTION = {"invertible, float32", "invertible, float64"}
DETERMINANT = {"log-determinant, float32", "log-determinant, float64"}
FLOW = REAL | BIJECTION | DETERMINANT
LATENT = PROMISES - {"one by one"} | {"bounds in order"}
BOUND = PROMISES - {"one by one"} | BIJECTION | DETERMINANT | {"bound within one"}

# name: (how it is built, the laws that apply beside ALWAYS)
INSTANCES: dict[str, tuple[Callable[[], Density], set[str]]] = {
    # MADE
    "made 4x4 binary, 2 orderings": (lambda: MADE(Event((1, 4, 4), 2), hidden=(16,), orderings=2), SUMS | NETWORK),
    "made 3x8, vector, 3 orderings": (lambda: MADE(Event((3,), 8), VECTOR, hidden=(8, 8), orderings=3), SUMS | NETWORK),
    "made 2x256": (lambda: MADE(Event((2,), 256), hidden=(4,)), SUMS | NETWORK),
    "made one symbol": (lambda: MADE(Event((3,), 1), hidden=(4,)), SUMS | NETWORK),
    "made mixed table, label": (lambda: MADE(Event((4,), (2, 5, 1, 17)), LABEL, hidden=(9, 7)), SUMS | NETWORK),
    "made linear, RGB, picture": (lambda: MADE(Event((3, 1, 2), 3), PICTURE, hidden=(), orderings=2), SUMS | NETWORK),
    "made 8x8x17, 2 orderings": (
        lambda: MADE(Event((1, 8, 8), 17), hidden=(80,), orderings=2),
        NETWORK - {"true samples"},
    ),
    # Gated PixelCNN
    "pixelcnn 3x4 binary": (
        lambda: GatedPixelCNN(Event((1, 3, 4), 2), channels=4, layers=2, first_kernel=5),
        SUMS | NETWORK,
    ),
    "pixelcnn 3x8, label": (lambda: GatedPixelCNN(Event((1, 1, 3), 8), LABEL, **SMALL), SUMS | NETWORK),
    "pixelcnn 3x8, logistics, vector": (
        lambda: GatedPixelCNN(Event((1, 3, 1), 8), VECTOR, **SMALL, **LOGISTICS),
        SUMS | NETWORK,
    ),
    "pixelcnn 2x256": (lambda: GatedPixelCNN(Event((1, 1, 2), 256), **SMALL), SUMS | NETWORK),
    "pixelcnn 2x256, logistics": (lambda: GatedPixelCNN(Event((1, 2, 1), 256), **SMALL, **LOGISTICS), SUMS | NETWORK),
    "pixelcnn RGB 1x2x4, picture": (lambda: GatedPixelCNN(Event((3, 1, 2), 4), PICTURE, **SMALL), SUMS | NETWORK),
    "pixelcnn RGB 1x2x4, logistics, label": (
        lambda: GatedPixelCNN(Event((3, 1, 2), 4), LABEL, **SMALL, **LOGISTICS),
        SUMS | NETWORK,
    ),
    "pixelcnn 8x8x17, label": (
        lambda: GatedPixelCNN(Event((1, 8, 8), 17), LABEL, channels=8, layers=3, kernel=5),
        NETWORK,
    ),
    "pixelcnn RGB 2x3x256, logistics": (
        lambda: GatedPixelCNN(Event((3, 2, 3), 256), channels=8, layers=2, **LOGISTICS),
        NETWORK,
    ),
    # Classical
    "histogram 2x3 binary": (lambda: Histogram(Event((1, 2, 3), 2), smoothing=0.0), SUMS | ALWAYS | SIGHT),
    "histogram mixed table, label": (lambda: Histogram(Event((3,), (2, 5, 17)), LABEL), SUMS | ALWAYS | SIGHT),
    "independent pixels 3x8": (lambda: IndependentPixels(Event((1, 1, 3), 8)), SUMS | ALWAYS),
    "independent pixels, mixed table, label": (
        lambda: IndependentPixels(Event((3,), (2, 5, 17)), LABEL),
        SUMS | ALWAYS,
    ),
    "independent pixels 28x28x256": (lambda: IndependentPixels(Event((1, 28, 28), 256)), ALWAYS),
    "histogram 3x1": (lambda: Histogram(Event((3,), 1)), SUMS | ALWAYS | SIGHT),
    "symbol histogram 3x8, label": (lambda: SymbolHistogram(Event((3,), 8), LABEL), SUMS | ALWAYS),
    # Densities of real values
    "gaussian mixture, 1": (lambda: GaussianMixture(LINE, components=3), REAL | AREA),
    "gaussian mixture, 2, label": (lambda: GaussianMixture(PLANE, LABEL, components=3), REAL | AREA),
    "gaussian mixture, 2x3, diagonal": (
        lambda: GaussianMixture(SPACE, components=2, covariance="diagonal"),
        REAL,
    ),
    "gaussian mixture, single value": (lambda: GaussianMixture(VALUE, components=2), REAL | AREA),
    "normal": (lambda: Normal(PLANE), REAL | AREA),
    "normal, single value": (lambda: Normal(VALUE), REAL | AREA),
    "logistic": (lambda: Logistic(SPACE), REAL),
    "uniform": (lambda: Uniform(PLANE), REAL | AREA),
    # Flows
    "flow, affine": (lambda: Flow(Normal(PLANE), [Elementwise(Affine(), (2,))]), FLOW | AREA),
    "flow, affine, label": (
        lambda: Flow(Normal(PLANE), [Elementwise(Affine(), (2,), 4)], LABEL, features=4),
        FLOW | AREA,
    ),
    "flow, affine, vector": (
        lambda: Flow(Logistic(SPACE), [Elementwise(Affine(), (2, 3), 4)], VECTOR, features=4),
        FLOW,
    ),
    "flow of the unit square": (
        lambda: Flow(Normal(PLANE), [Elementwise(Logit(), (2,)), Elementwise(Affine(), (2,))]),
        FLOW | AREA,
    ),
    "flow to the unit square": (
        lambda: Flow(Uniform(PLANE), [Elementwise(Affine(), (2,)), Elementwise(Sigmoid(), (2,))]),
        FLOW | AREA,
    ),
    "flow on a flow": (
        lambda: Flow(Flow(Normal(PLANE), [Elementwise(MonotoneLayer(3), (2,))]), [Coupling(Affine(), (2,))]),
        FLOW | AREA,
    ),
    "flow, spline couplings": (
        lambda: Flow(Normal(PLANE), [Coupling(RationalQuadraticSpline(), (2,), swapped=k > 0) for k in range(2)]),
        FLOW | AREA,
    ),
    "flow, single value": (
        lambda: Flow(Normal(VALUE), [Elementwise(RationalQuadraticSpline(4), ()), Elementwise(LeakyReLU(), ())]),
        FLOW | AREA,
    ),
    "flow of a single symbol": (
        lambda: Flow(Normal(VALUE), [*preprocessing(Event((), 4), "variational"), Elementwise(Affine(), ())]),
        BOUND,
    ),
    "flow of symbols": (
        lambda: Flow(Normal(Event((1, 2))), [*preprocessing(Event((1, 2), 5)), Elementwise(Affine(), (1, 2))]),
        BOUND,
    ),
    "flow of a mixed table, label": (
        lambda: Flow(
            Normal(Event((3,))),
            [*preprocessing(Event((3,), (2, 5, 3))), Elementwise(Affine(), (3,), 4)],
            LABEL,
            features=4,
        ),
        BOUND,
    ),
    "flow of symbols, fitted noise": (
        lambda: Flow(
            Normal(Event((2,))),
            [*preprocessing(Event((2,), 4), "variational"), Elementwise(Affine(), (2,))],
        ),
        BOUND,
    ),
    "flow of a mixed table, noise of every symbol": (
        lambda: Flow(
            Normal(Event((2,))),
            [*preprocessing(Event((2,), (3, 5)), "factorized"), Elementwise(Affine(), (2,))],
        ),
        BOUND,
    ),
    "affine flow, label": (lambda: AffineFlow(PLANE, LABEL, features=4), FLOW | AREA),
    "affine flow, single value": (lambda: AffineFlow(VALUE), FLOW | AREA),
    "affine flow, 2x3": (lambda: AffineFlow(SPACE), FLOW),
    "mixture CDF, label": (lambda: MixtureCDF(LINE, LABEL, components=3, features=4), FLOW | AREA),
    "mixture CDF, single value": (lambda: MixtureCDF(VALUE, components=2), FLOW | AREA),
    "mixture CDF, Gaussian": (lambda: MixtureCDF(PLANE, components=3, kernel="gaussian"), FLOW | AREA),
    "autoregressive mixture CDF, label": (
        lambda: AutoregressiveMixtureCDF(PLANE, LABEL, layers=1, components=3, hidden=(8,), features=4),
        FLOW | AREA,
    ),
    "NICE": (lambda: NICE(PLANE, layers=3, hidden=(8,)), FLOW | AREA),
    "NICE of symbols, label": (lambda: NICE(Event((3,), 3), LABEL, layers=3, hidden=(8,), features=4), BOUND),
    "RealNVP, vector": (lambda: RealNVP(PLANE, VECTOR, layers=3, width=8, features=4), FLOW | AREA),
    "RealNVP over images": (lambda: RealNVP(Event((1, 2, 4)), layers=2, width=8, depth=1), FLOW),
    "RealNVP of symbols": (lambda: RealNVP(Event((1, 2, 2), 3), layers=2, width=8, depth=1), BOUND),
    "Glow": (lambda: Glow(PLANE, layers=2, width=8), FLOW | AREA),
    "Glow over images, label": (
        lambda: Glow(Event((2, 2, 2)), LABEL, layers=2, width=8, depth=1, features=4),
        FLOW,
    ),
    "Flow++": (lambda: FlowPlusPlus(PLANE, layers=2, components=3, width=8, depth=1), FLOW | AREA),
    "Flow++ of symbols": (lambda: FlowPlusPlus(Event((1, 2, 2), 2), layers=2, components=3, width=8, depth=1), BOUND),
    "MAF, label": (lambda: MAF(PLANE, LABEL, layers=3, hidden=(8, 8), features=4), FLOW | AREA),
    "MAF, single value, label": (lambda: MAF(VALUE, LABEL, layers=2, hidden=(8,), features=4), FLOW | AREA),
    "MAF of symbols": (lambda: MAF(Event((4,), 4), layers=2, hidden=(8,)), BOUND),
    "IAF": (lambda: IAF(PLANE, layers=2, hidden=(8,)), FLOW | AREA),
    "IAF, 2x3, vector": (lambda: IAF(SPACE, VECTOR, layers=2, hidden=(8,), features=4), FLOW),
    "neural autoregressive flow, 1": (
        lambda: NeuralAutoregressiveFlow(LINE, layers=2, units=4, hidden=()),
        FLOW | AREA,
    ),
    "neural autoregressive flow, label": (
        lambda: NeuralAutoregressiveFlow(PLANE, LABEL, layers=2, units=3, hidden=(8,), features=4),
        FLOW | AREA,
    ),
    "neural spline flow": (lambda: NeuralSplineFlow(PLANE, layers=2, bins=4, hidden=(8,)), FLOW | AREA),
    "neural spline coupling, label": (
        lambda: NeuralSplineCoupling(PLANE, LABEL, layers=2, bins=4, hidden=(8,), features=4),
        FLOW | AREA,
    ),
    # Latent variables
    "mixture, mixed table": (lambda: Mixture(Event((3,), (2, 5, 17)), components=3), SUMS | NETWORK),
    "mixture 2x3 binary, label": (lambda: Mixture(Event((1, 2, 3), 2), LABEL, components=3), SUMS | NETWORK),
    "mixture 8x8x17": (lambda: Mixture(Event((1, 8, 8), 17), components=5), NETWORK),
    "mixture of one": (lambda: Mixture(Event((3,), 4), components=1), SUMS | NETWORK),
    "mixture of densities, label": (
        lambda: MixtureOf([IndependentPixels(Event((3,), 3), LABEL), MADE(Event((3,), 3), LABEL, hidden=(8,))]),
        SUMS | PROMISES | {"true samples"},
    ),
    "mixture of flows": (
        lambda: MixtureOf([AffineFlow(PLANE), RealNVP(PLANE, layers=2, width=8)]),
        REAL | AREA,
    ),
    "VAE": (lambda: VAE(PLANE, latent=2, hidden=(8,)), LATENT),
    "VAE of symbols": (lambda: VAE(Event((3,), (2, 3, 4)), latent=2, hidden=(8,)), LATENT | {"bound within one"}),
    "VAE over images, logistics": (
        lambda: VAE(Event((1, 2, 2), 4), latent=2, hidden=(8,), channels=4, head="logistics"),
        LATENT | {"bound within one"},
    ),
    "VAE of symbols, full covariance, mixture prior": (
        lambda: VAE(Event((3,), 3), latent=2, hidden=(8,), covariance="full", prior_kind="mixture", components=3),
        LATENT | {"bound within one"},
    ),
    "VAE, prior of pseudo-inputs": (
        lambda: VAE(PLANE, latent=2, hidden=(8,), prior_kind="vamp", components=3),
        LATENT,
    ),
    "hierarchical VAE": (lambda: HierarchicalVAE(PLANE, latents=(3, 2, 1), hidden=(8,)), LATENT - {"bounds in order"}),
    "hierarchical VAE of symbols": (
        lambda: HierarchicalVAE(Event((3,), (2, 3, 4)), latents=(1, 1), hidden=(8,)),
        LATENT | {"bound within one"},
    ),
    "IAF-VAE": (lambda: IAFVAE(PLANE, latent=2, hidden=(8,), layers=2, flow_hidden=(8,), features=4), LATENT),
    "IAF-VAE of symbols, flow prior": (
        lambda: IAFVAE(
            Event((3,), 3), latent=2, hidden=(8,), layers=2, flow_hidden=(8,), features=4, prior_kind="flow"
        ),
        LATENT | {"bound within one"},
    ),
    "PixelVAE": (
        lambda: PixelVAE(Event((1, 2, 2), 4), latent=2, hidden=8, channels=4, features=4),
        LATENT | {"bound within one"},
    ),
    "PixelVAE of RGB, logistics": (
        lambda: PixelVAE(Event((3, 2, 2), 8), latent=1, hidden=8, channels=4, features=4, head="logistics"),
        LATENT,
    ),
    "VQ-VAE": (lambda: VQVAE(PLANE, codes=5, size=2, latent=2, hidden=(8,), prior_hidden=(8,)), LATENT),
    "VQ-VAE of symbols": (
        lambda: VQVAE(Event((3,), (2, 3, 4)), codes=4, size=2, latent=3, hidden=(8,), prior_hidden=(8,)),
        LATENT | {"bound within one"},
    ),
    "VQ-VAE over images, logistics": (
        lambda: VQVAE(Event((1, 4, 4), 4), codes=3, size=3, channels=4, head="logistics", prior_channels=4),
        LATENT,
    ),
    "VQ-VAE over images of real values": (
        lambda: VQVAE(Event((2, 4, 4)), codes=3, size=3, channels=4, prior_channels=4),
        LATENT,
    ),
    "IWAE": (lambda: IWAE(PLANE, latent=2, hidden=(8,), gradient="doubly reparametrized"), LATENT),
    "IWAE of symbols": (
        lambda: IWAE(Event((3,), (2, 3, 4)), latent=2, hidden=(8,)),
        LATENT | {"bound within one"},
    ),
    "beta-VAE of symbols": (
        lambda: BetaVAE(Event((3,), 3), latent=2, hidden=(8,), beta=0.2),
        LATENT | {"bound within one"},
    ),
    "wake-sleep": (lambda: WakeSleep(PLANE, latent=2, hidden=(8,)), LATENT),
    "wake-sleep of symbols, exclusive": (
        lambda: WakeSleep(Event((3,), 3), latent=2, hidden=(8,), divergence="exclusive"),
        LATENT | {"bound within one"},
    ),
    "discrete VAE": (lambda: DiscreteVAE(PLANE, latent=3, categories=3, hidden=(8,)), LATENT),
    "discrete VAE of symbols, VIMCO": (
        lambda: DiscreteVAE(Event((3,), (2, 3, 4)), latent=4, hidden=(8,), gradient="VIMCO"),
        LATENT | {"bound within one"},
    ),
    "discrete VAE over images, straight through": (
        lambda: DiscreteVAE(
            Event((1, 2, 2), 4), latent=3, categories=3, hidden=(8,), channels=4, gradient="straight through"
        ),
        LATENT | {"bound within one"},
    ),
    "FFJORD": (lambda: FFJORD(LINE, hidden=(8, 8), tolerance=1e-3), FLOW | AREA),
    "FFJORD of symbols, label": (lambda: FFJORD(Event((2,), 3), LABEL, hidden=(8, 8), tolerance=1e-3), BOUND),
}


def fit(model: Density, x: Tensor, context: Tensor | None = None, steps: int = 40, rate: float = 0.02) -> Density:
    """A closed form, or a few steps of Adam on all the data at once."""
    generator = torch.Generator().manual_seed(0)
    if model.estimable:
        model.estimate((x, context), generator=generator)
    if model.estimable or not list(model.parameters()):
        return model
    model.initialize(x, context, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(x, context, generator=generator).backward()
        optimizer.step()
    return model


def data(model: Density, n: int = 64) -> tuple[Tensor, Tensor | None]:
    """Examples with structure: ascending symbols, or values that depend on the one before; moved up by the context."""
    generator = torch.Generator().manual_seed(1)
    x = examples(model.event, n, generator).reshape(n, -1)
    x = x.cummax(1)[0] if model.event.discrete else x.cumsum(1)
    context = None if model.context is None else examples(model.context, n, generator)
    if context is not None:
        x = x + context.reshape(n, -1)[:, :1].round().abs().long()
    if not model.event.discrete:
        return inside(x.view(n, *model.event.shape), model.support), context
    return (x % torch.tensor(model.event.alphabets)).view(n, *model.event.shape), context


def two_temperatures(n: int) -> tuple[Tensor, Tensor]:
    """16 spins from an Ising model whose temperature is the context."""
    generator = torch.Generator().manual_seed(2)
    x = torch.cat([Ising(4, beta).sample(n // 2, generator=generator) for beta in (0.2, 0.7)])
    return x, torch.arange(2).repeat_interleave(n // 2)
