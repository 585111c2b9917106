"""Logistics whose channels are coupled, at extreme parameters: finite, normalised, and as in exact arithmetic."""

import itertools
import math

import pytest
import torch

import likely
from likely.nn import LogisticsHead
from likely.nn.heads import ExactLogisticsHead


def drawn(head, channels, reach, dtype, n=100):
    generator = torch.Generator().manual_seed(0)
    signs = torch.rand(n, round(channels * head.width), generator=generator, dtype=torch.float64) * 2 - 1
    return (signs.sign() * reach ** signs.abs()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("reach", [40.0, 1e4])
def test_every_symbol_has_a_finite_log_probability(dtype, levels, reach):
    head = LogisticsHead(levels, 3, 5)
    parameters = drawn(head, 3, reach, dtype).requires_grad_()
    for x in itertools.product((0, levels // 2, levels - 1), repeat=3):  # what the channels before may be
        p = head(parameters, torch.tensor(x).expand(len(parameters), 3))
        assert p.log_table().isfinite().all()
        total = p.table().sum(-1)
        rounding = torch.finfo(dtype).eps * math.exp(7)  # of (x − μ) / s with the smallest s
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=rounding)
        gradient = torch.autograd.grad(p.log_prob(torch.tensor(x).expand(len(parameters), 3)).sum(), parameters)[0]
        assert gradient.isfinite().all()


def test_wide_scales_are_those_of_exact_arithmetic():
    head, x = LogisticsHead(4, 1, 1), torch.zeros(100, 1, dtype=torch.int64)
    log_scales = torch.linspace(6, 100, 100, dtype=torch.float64)
    parameters = torch.stack([torch.zeros_like(log_scales), torch.linspace(-1, 1, 100).double(), log_scales], 1)
    table, exact = (each(parameters, x).table() for each in (head, ExactLogisticsHead(head)))
    assert (table - exact).abs().max() < 2**-17  # two edges on a grid of 2⁻¹⁶, the slope being 1/4
    assert table.min() > 2**-15  # beyond a scale of e⁸, too


def test_a_model_far_from_its_data_has_a_finite_bound():
    event = likely.Event((3, 4, 4), 4)
    model = likely.VAE(event, latent=3, hidden=(16,), head="logistics")
    x = torch.randint(4, (60, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
        assert model.log_prob(x, generator=torch.Generator().manual_seed(0)).isfinite().all()
