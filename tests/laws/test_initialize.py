"""What starts from data starts once: neither a second fit nor one after loading begins anew."""

import pytest
import torch
from law_instances import INSTANCES, data
from torch import Tensor

from likely.densities.conditional import ConditionalNormal
from likely.density import Density
from likely.event import Event
from likely.laws.case import examples
from likely.nn.values import Values
from likely.runs import store


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def other_data(model: Density, n: int) -> tuple[Tensor, Tensor | None]:
    """Data of the model's event that are unlike those of `data`: elsewhere, and drawn with another seed."""
    x = examples(model.event, n, seeded(7), model.support)
    if model.support.low == -torch.inf and not model.event.discrete:
        x = 3 * x + 5
    if model.context is None:
        return x, None
    context = examples(model.context, n, seeded(8))
    return x, context if model.context.discrete else 3 * context - 4


def take_a_step(model: Density, x: Tensor, context: Tensor | None) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.numel()]
    loss = model.train().loss(x, context, generator=seeded(3))
    if parameters and loss.requires_grad:
        loss.backward()
        torch.optim.Adam(parameters, 1e-3).step()
    model.eval()


def differing(model: Density, before: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]


def weights(model: Density) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", INSTANCES)
def test_initialize_sets_once(name, tmp_path):
    model = INSTANCES[name][0]()
    x, context = data(model, 64)
    other = other_data(model, 64)
    model.initialize(x, context, generator=seeded(0))
    before = weights(model)
    model.initialize(*other, generator=seeded(1))
    assert not differing(model, before)
    take_a_step(model, x, context)
    before = weights(model)
    model.initialize(*other, generator=seeded(2))
    assert not differing(model, before)
    store.save(model, tmp_path / "run")
    loaded = store.load(tmp_path / "run")
    loaded.initialize(*other, generator=seeded(2))
    assert not differing(loaded, before)


def test_data_of_mean_zero_and_deviation_one_are_remembered():
    values, x = Values(Event((2,))), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    values.initialize(x)
    assert torch.equal(values(x)[..., 0], x)
    before = weights(values)
    values.initialize(5 * x + 3)
    assert not differing(values, before)


def test_a_single_value_is_standardised_by_the_first_data():
    density = ConditionalNormal(Event(()), Event((1,)))
    x = torch.tensor([1.0, 5.0])
    density.initialize(x, x[:, None])
    assert density.mean == 3
    assert density.deviation == 2
    density.initialize(x + 1, x[:, None] + 1)
    assert density.mean == 3
