"""Small latent-variable models whose sums and integrals over z are computed, and gradients by the batch."""

import math

import torch

from likely.autoregressive import MADE
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.event import Event
from likely.latent.indicators import OnIndicators
from likely.latent.objectives import OBJECTIVES, TrainedOn
from likely.nn.network import Perceptron

LINEAR = Perceptron((), "relu")


def redrawn(model, scale):
    """In float64, every weight drawn anew: nothing is zero or symmetric."""
    generator = torch.Generator().manual_seed(7)
    model.double()
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def of_bits(bits, objective="score function", draws=2, *, levels=2, dims=12, scale=0.6, prior=None):
    """Latents of a few symbols, binary examples: one of them."""
    z, event = Event((bits,), levels), Event((dims,), 2)
    decoder = ConditionalSymbols(event, z, network=OnIndicators(LINEAR))
    prior = MADE(z, hidden=()) if prior is None else prior(z)
    parts = prior, decoder, ConditionalSymbols(z, event, network=LINEAR)
    return redrawn(TrainedOn(*parts, objective=objective, draws=draws), scale), torch.arange(dims)[None] % 2


def of_plane(objective="evidence lower bound", draws=1):
    """Two real latents, examples of three symbols: one of them."""
    z, event = Event((2,)), Event((3,), 3)
    decoder = ConditionalSymbols(event, z, network=LINEAR)
    parts = Normal(z), decoder, ConditionalNormal(z, event, network=LINEAR)
    return redrawn(TrainedOn(*parts, objective=objective, draws=draws), 0.4), torch.tensor([[0, 2, 1]])


def states_of(event):
    return torch.cartesian_prod(*(torch.arange(levels) for levels in event.alphabets)).view(-1, event.dims)


def scored(model, x, z):
    """ln p(x, z) and ln q(z | x) of one example and every z, (states,) each."""
    rows = x.expand(len(z), -1)
    joint = model.decoder.log_prob(rows, z) + model.prior.log_prob(z)
    return joint, model.encoder.log_prob(z, rows)


def grid(model, x, reach=7.0, step=0.5):
    """Points of the plane around q(z | x), and the area that each stands for."""
    with torch.no_grad():
        q = model.encoder.parameters_of(x)
        u = torch.arange(-reach, reach + step / 2, step, dtype=torch.float64)
        return q.mu + q.log_sigma.exp() * torch.cartesian_prod(u, u), step**2 * q.log_sigma.exp().prod()


def bound(joint, log_q, draws, area=1.0):
    """E[L_K] as a sum over all tuples of z, of whatever gradients `joint` and `log_q` have; with one draw the ELBO."""
    tuples = [torch.zeros(()).double(), torch.full((), -math.inf).double()]  # ln q, ln Σ w
    for k in range(draws):
        shape = [-1 if j == k else 1 for j in range(draws)]
        tuples = [tuples[0] + log_q.view(shape), torch.logaddexp(tuples[1], (joint - log_q).view(shape))]
    return ((tuples[0] + draws * math.log(area)).exp() * (tuples[1] - math.log(draws))).sum()


def exact(model, x, draws):
    """E[L_K], by enumeration or quadrature."""
    z, area = (states_of(model.prior.event), 1.0) if model.prior.event.discrete else grid(model, x)
    return bound(*scored(model, x, z), draws, area)


def flat_gradient(value, model):
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def estimates(model, x, objective=None, *, batches=100, copies=100, seed=0):
    """Gradients (batches, parameters), each the mean over copies of one example, with z of its own."""
    objective = OBJECTIVES[model.objective] if objective is None else objective
    generator, rows = torch.Generator().manual_seed(seed), x.repeat(copies, 1)
    found = [flat_gradient(objective(model, rows, model.draws, generator).mean(), model) for _ in range(batches)]
    return torch.stack(found)


def of_encoder(model):
    """Which of the parameters are the encoder's."""
    own = {id(parameter) for parameter in model.encoder.parameters()}
    return torch.cat([torch.full((p.numel(),), id(p) in own) for p in model.parameters()])


def z_scores(found, expected):
    """Of the means of estimates; where they do not vary, they must be right."""
    error, difference = found.std(0) / len(found) ** 0.5, found.mean(0) - expected
    assert (difference[error < 1e-12].abs() < 1e-9).all()
    return (difference / error)[error >= 1e-12]
