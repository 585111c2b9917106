"""Values far out and next to zero, in single precision: right or refused, for every named flow and every transform.

What is right is the same transform in double precision. And batches: what becomes of an example does not depend on the
others of its batch.
"""

import copy
import inspect
from functools import cache

import pytest
import torch
from transform_instances import FEATURES, INSTANCES, redrawn

import likely
from likely.catalogue import models
from likely.event import REAL, Event
from likely.flows import Flow

VALUES = [0.0, *(sign * size for size in (1e-30, 1e6, 1e30, 3e38) for sign in (1, -1))]
PLACES = ["all", "last"]
EVENTS = {
    "value": Event(()),
    "pair": Event((2,)),
    "image": Event((1, 2, 2)),
    "symbols": Event((1, 2, 2), levels=3),
}
SMALL = {"hidden": (8, 8), "width": 8, "depth": 1, "layers": 2, "components": 3, "max_steps": 32}
NAMES = [name for name, model in models().items() if issubclass(model, Flow)]


@cache
def built(name, kind):
    """A named flow with random weights, started from data, or None where it does not take the event."""
    model, event = models()[name], EVENTS[kind]
    arguments = {key: value for key, value in SMALL.items() if key in inspect.signature(model).parameters}
    try:
        flow = model(event, **arguments)
    except likely.InputError:
        return None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, *event.shape, generator=generator)
    flow.initialize(x if event.levels is None else x.abs().long().clamp(0, 2), generator=generator)
    for parameter in flow.parameters():
        moved = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.5 * moved / max(1, parameter[0].numel() if parameter.ndim > 1 else 4) ** 0.5
    return flow.eval()


BUILT = [(name, kind) for name in NAMES for kind in EVENTS if built(name, kind) is not None]


def far(shape, value, places):
    """One example, in which one value or all of them are far out."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    x.view(-1)[slice(None) if places == "all" else -1] = value
    return x[None]


def right_or_refused(call, exact, x, context=None):
    """Finite, and what it is in double precision up to a thousandth of the largest value; or refused. Whether right."""
    with torch.no_grad():
        try:
            found = call(x, context)
        except likely.Error:
            return False
        expected = exact(x.double(), None if context is None else context.double())
    size = float(x.double().abs().max())
    for ours, truth in zip(found, expected, strict=True):
        assert ours.isfinite().all()
        size = max(size, float(truth.double().abs().max()))
        assert (ours.double() - truth.double()).abs().max() <= 1e-3 * (1 + size)
    return True


def test_every_named_flow_is_tried():
    assert {name for name, _ in BUILT} == set(NAMES)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", INSTANCES)
def test_transforms(name, places):
    transform, shape = redrawn(name, torch.float32), INSTANCES[name][1]
    exact, context = copy.deepcopy(transform).double(), torch.randn(1, FEATURES)
    after = transform.event_after(Event(shape)).shape
    for value in VALUES:
        there = right_or_refused(transform, exact, far(shape, value, places), context)
        back = right_or_refused(transform.inverse, exact.inverse, far(after, value, places), context)
        assert (there and back) or abs(value) > 1e6 or (transform.domain, transform.codomain) != (REAL, REAL)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(("name", "kind"), BUILT)
def test_named_flows(name, kind, places):
    flow = built(name, kind)
    exact, after = copy.deepcopy(flow).double(), flow.base.event.shape
    for value in VALUES:
        right = [right_or_refused(flow.transform.inverse, exact.transform.inverse, far(after, value, places))]
        if flow.event.levels is None:
            x = far(flow.event.shape, value, places)
            right.append(right_or_refused(flow.transform, exact.transform, x))
            right.append(right_or_refused(lambda x, _: (flow.log_prob(x),), lambda x, _: (exact.log_prob(x),), x))
        assert all(right) or abs(value) > 1e6


@pytest.mark.parametrize(("name", "kind"), [case for case in BUILT if case[1] != "image"])
def test_batches_of_one_and_of_a_thousand(name, kind):
    flow = built(name, kind)

    def check(together, alone):
        for batch, one in zip(together, alone, strict=True):
            torch.testing.assert_close(one, batch[:1], atol=1e-4, rtol=1e-4)

    with torch.no_grad():
        z = flow.base.sample(1000, generator=torch.Generator().manual_seed(0))
        x, ladj = flow.transform.inverse(z)
        for row in (0, 1, 500, 999):
            check((x[row:], ladj[row:]), flow.transform.inverse(z[row : row + 1]))
        for n in (1, 1000):
            drawn = flow.sample(n, generator=torch.Generator().manual_seed(1))
            assert drawn.shape == (n, *flow.event.shape)
            assert drawn.isfinite().all()
            assert flow.log_prob(drawn).isfinite().all()
        if flow.kind == "exact":
            log_prob = flow.log_prob(x)
            for row in (0, 1, 500, 999):
                check((log_prob[row:],), (flow.log_prob(x[row : row + 1]),))
