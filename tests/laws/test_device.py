"""On an accelerator a model is what it is on the processor. Skipped where there is none."""

import copy

import pytest
import torch
from law_instances import INSTANCES, data, fit

import likely
from likely.coding.frozen import FROZEN
from likely.runs import store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SYMBOLS = [
    "made 8x8x17, 2 orderings",
    "pixelcnn 8x8x17, label",
    "VAE of symbols",
    "hierarchical VAE of symbols",
    "VQ-VAE of symbols",
    "mixture 8x8x17",
]


@pytest.mark.parametrize("name", INSTANCES)
def test_same_densities_and_samples(name):
    """From the same noise, which a generator of the processor draws."""
    build, _ = INSTANCES[name]
    model = build()
    x, context = data(model)
    model = fit(model, x, context).double().eval()
    moved = copy.deepcopy(model).to("cuda")
    with torch.no_grad():
        here, there = (
            m._log_prob(m.check(x), m.check_context(context, len(x)), torch.Generator().manual_seed(0))
            for m in (model, moved)
        )
        given = None if context is None else context[:8]
        drawn, again = (m.sample(8, context=given, generator=torch.Generator().manual_seed(0)) for m in (model, moved))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(again.cpu(), drawn, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SYMBOLS)
def test_fit_and_resume(name, tmp_path):
    """A run of the accelerator's: its weights load, it is frozen, and a finished one can be resumed there."""
    build, _ = INSTANCES[name]
    model = build().to("cuda")
    x, context = data(model)
    pair = x if context is None else (x, context)
    settings = {} if model.estimable else {"budget": "5 steps", "batch_size": 16, "evaluations": 1}
    model = likely.fit(model, pair, out=tmp_path / "run", **settings)
    assert model.device.type == "cuda"
    assert (tmp_path / "run" / FROZEN).exists()
    for loaded in (store.load(tmp_path / "run"), likely.resume(tmp_path / "run", pair, device="cuda")):
        weights = loaded.state_dict()
        assert all(torch.equal(weights[key].cpu(), value.cpu()) for key, value in model.state_dict().items())
