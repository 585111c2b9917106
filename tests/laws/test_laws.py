"""The laws over the catalogue, by name; and that each of them can fail."""

import inspect
import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import broken_models as broken
import numpy as np
import pytest
import torch
from law_instances import BIJECTION, DETERMINANT, INSTANCES, NETWORK, PROMISES, REAL, SUMS, data, fit, two_temperatures

from likely.autoregressive import MADE
from likely.catalogue import models
from likely.data.sources import Coins, Ising
from likely.density import Density, seeded
from likely.errors import InputError
from likely.event import Event
from likely.latent import VAE, MixtureOf
from likely.laws import LawsBroken, check_model
from likely.laws.bounds import integrated
from likely.laws.case import Case
from likely.laws.check import LAWS
from likely.laws.promises import multiplications
from likely.laws.samples import g_test
from likely.laws.table import LawTable
from likely.runs import store


def test_every_model_has_instances():
    assert set(models()) <= {type(build()).__name__ for build, _ in INSTANCES.values()}


def beside(model: Density) -> set[str]:
    """The laws of values and contexts with units: all models of the catalogue have some, what they end in has none."""
    named = type(model).__name__ in models() or isinstance(model, MixtureOf)
    context = model.context is not None and not model.context.discrete
    laws = set()
    if context or (named and not model.event.discrete):
        laws.add("any units")
    if context and model.kind == "exact":
        laws.add("one by one, beyond")
    return laws


EVENTS = {"symbols": Event((1, 1, 3), levels=3), "values": Event((2,)), "even sizes": Event((1, 2, 2), levels=2)}
WIDTHS = {
    "hidden",
    "flow_hidden",
    "prior_hidden",
    "width",
    "channels",
    "prior_channels",
    "components",
    "features",
    "units",
}
NARROW = 8


def built(name: str, **sizes: int | tuple[int, ...]) -> dict[str, Density]:
    """A model of every event that it takes, from that event alone: it refuses the others."""
    found = {}
    for kind, event in EVENTS.items():
        with suppress(InputError):
            found[kind] = models()[name](event, **sizes)
    if "symbols" in found:
        found.pop("even sizes")
    return found


def narrow(name: str) -> dict[str, int | tuple[int, ...]]:
    """Widths for a model's constructor where its own are larger; as many layers as it has of itself."""
    sizes = {}
    for key, parameter in inspect.signature(models()[name]).parameters.items():
        if key in WIDTHS and isinstance(parameter.default, tuple):
            sizes[key] = tuple(min(NARROW, size) for size in parameter.default)
        elif key in WIDTHS:
            sizes[key] = min(NARROW, parameter.default)
    return sizes


def held(model: Density, laws: set[str]) -> None:
    """Hold a model against some of the laws."""
    with seeded(0), torch.no_grad():
        case = Case(model)
        table = LawTable(type(model).__name__, tuple(law.apply(case) for law in LAWS if law.name in laws))
    assert not table.broken, table


@cache
def held_by_instances() -> dict[tuple[str, bool], set[str]]:
    """Laws that instances are held against, by their class and whether they are over symbols."""
    found: dict[tuple[str, bool], set[str]] = {}
    for build, laws in INSTANCES.values():
        model = build()
        found.setdefault((type(model).__name__, model.event.discrete), set()).update(laws | beside(model))
    return found


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("kind", EVENTS)
def test_laws_of_the_catalogue(name, kind):
    """Built from an event alone, a model keeps what it promises.

    The laws that no instance of its class is held against over such events, it keeps with narrow networks, to whose
    width these are nothing but time.
    """
    found = built(name)
    assert found
    if kind in found:
        held(found[kind], PROMISES)
        others = {law.name for law in LAWS} - held_by_instances().get((name, EVENTS[kind].discrete), set())
        held(built(name, **narrow(name))[kind], others)


@pytest.mark.parametrize("name", INSTANCES)
def test_laws(name):
    """After a short fit, and (within the check) with every weight redrawn; the laws that ran are fixed."""
    build, laws = INSTANCES[name]
    with seeded(0):  # composed flows have no seed of their own
        model = build()
    table = check_model(fit(model, *data(model)))
    assert set(table.ran) == laws | beside(model)


def test_laws_of_sixteen_spins():
    """Trained on a source, for every ordering and every context."""
    model = MADE(Event((1, 4, 4), levels=2), Event((), levels=2), hidden=(16,), orderings=2, features=8)
    x, labels = two_temperatures(2000)
    before = model.log_prob(x, labels).mean()
    fit(model, x, labels, steps=150)
    assert model.log_prob(x, labels).mean() > before + 1
    assert set(check_model(model).ran) == SUMS | NETWORK


def test_not_below_the_limit():
    source = Ising(2, 0.44)
    model = MADE(source.event, hidden=(8,))
    fit(model, source.sample(2000, generator=torch.Generator().manual_seed(0)), steps=100)
    assert check_model(model, source)["not below the limit"].value < 10
    assert check_model(source, source)["not below the limit"].value == 0


LIMITED = {"cost"}  # every variation of the naive network draws by D passes
TABLES = {"proper tables, float32", "proper tables, float64"}
SAME = {"same samples, float32", "same samples, float64"}
DRAWING = SAME | {"one conditional, float32", "one conditional, float64"}


@pytest.mark.parametrize(
    ("model", "laws"),
    [
        (broken.Naive(), LIMITED),
        (broken.Naive(mask="B"), LIMITED | SUMS | DRAWING | {"no leak", "true samples"}),
        (broken.Naive(kernel=3), LIMITED | {"no blind spot"}),
        (broken.Dead(), LIMITED | {"no blind spot"}),
        (broken.Unnormalized(), LIMITED | SUMS | TABLES | {"true samples"}),
        (broken.TwoFormulas(), LIMITED | TABLES | {"true samples"}),
        (broken.Batched(), LIMITED | SUMS | {"one by one", "units"}),
        (broken.Wanton(), LIMITED | {"repeatable"}),
        (broken.Rounds(), LIMITED | {"true samples"}),
        (broken.Cold(), LIMITED | {"true samples"}),
        (broken.Forgets(), LIMITED | DRAWING | {"true samples"}),
        (broken.Repeats(), LIMITED | SAME | {"no leak", "no blind spot", "true samples"}),
        (broken.Unsaved(), LIMITED | {"saved = loaded"}),
        (broken.Bits(), LIMITED | SUMS | {"true samples", "units"}),
        (broken.Clips(), LIMITED | {"refuse"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Density) else "",
)
def test_broken_models_are_rejected(model, laws):
    with pytest.raises(LawsBroken) as caught:
        check_model(model)
    assert {row.name for row in caught.value.table.broken} == laws, caught.value.table


AREA, DETERMINED = {"integrates to one"}, {"integrates to one"} | DETERMINANT


@pytest.mark.parametrize(
    ("model", "laws"),
    [
        (broken.Cancels(broken.PLANE, broken.PLANE), {"one by one, beyond", "any units"}),
        (broken.CastFirst(broken.PLANE), {"any units", "refuse"}),
        (broken.AsGiven(Event((2,), 3), broken.PLANE, hidden=(8,)), {"any units"}),
        (broken.flow(broken.Stretch()), set()),
        (broken.flow(broken.Stretch(), dims=6), set()),
        (broken.flow(broken.Bend()), set()),
        (broken.flow(broken.Reflect()), DETERMINED),
        (broken.flow(broken.WrongSign()), DETERMINED),
        (broken.flow(broken.WrongSign(), dims=6), DETERMINANT),
        (broken.flow(broken.Drops()), DETERMINED),
        (broken.flow(broken.OneWay()), DETERMINANT),
        (broken.Uncounted(broken.PLANE), DETERMINED),
        (broken.Unscaled(broken.PLANE), AREA),
        (broken.flow(broken.Short()), BIJECTION),
        (broken.flow(broken.Coarse()), BIJECTION),
        (broken.flow(broken.Saturates()), {"invertible, float32"}),
        (broken.Tempered(broken.PLANE), {"true samples"}),
        (broken.Tempered(Event((6,))), {"true samples"}),
        (broken.Half(broken.PLANE), {"true samples"}),
        (broken.symbols(broken.Noise(3)), set()),
        (broken.symbols(broken.Free(3)), {"bound within one"}),
        (broken.symbols(broken.Rounded(3)), BIJECTION),
        (broken.Overclaimed(Event((3,), levels=2)), {"bound within one"}),
        (broken.Outside(Event((3,), levels=2)), {"samples fit"}),
    ],
    ids=lambda value: broken.described(value) if isinstance(value, Density) else "",
)
def test_broken_densities_of_real_values_are_rejected(model, laws):
    if not laws:
        check_model(model)
        return
    with pytest.raises(LawsBroken) as caught:
        check_model(model)
    assert {row.name for row in caught.value.table.broken} == laws, caught.value.table


ORDER = {"bounds in order"}


@pytest.mark.parametrize(
    ("model", "laws"),
    [
        (broken.gaussian(), set()),
        (broken.enumerable(), set()),
        (broken.gaussian(broken.Dropped), ORDER),
        (broken.enumerable(broken.Dropped), set()),  # of symbols −ln q is no loss: a looser bound, but a bound
        (broken.gaussian(broken.Averaged), ORDER),
        (broken.enumerable(broken.Averaged), ORDER | {"bound within one"}),
        (broken.gaussian(broken.Beta), ORDER),
        (broken.enumerable(broken.Beta), ORDER | {"bound within one"}),
        (broken.gaussian(claimed=0.06), ORDER),
    ],
    ids=lambda value: f"{type(value).__name__}, {value.prior.event}" if isinstance(value, Density) else "",
)
def test_broken_bounds_are_rejected(model, laws):
    if not laws:
        assert check_model(model)["bounds in order"].verdict == "kept"
        return
    with pytest.raises(LawsBroken) as caught:
        check_model(model)
    assert {row.name for row in caught.value.table.broken} == laws, caught.value.table


def test_integrals_over_latents_are_those_of_gaussians():
    """ln N(x; 0, 1 + 0.05²), from a posterior a twentieth as wide as the prior; far out, too."""
    model = broken.gaussian().double()
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0], [6.0, 0.5]]).double()
    found = [integrated(Case(model), model, row[None]) for row in x]
    expected = torch.distributions.Normal(0, (1 + 0.05**2) ** 0.5).log_prob(x).sum(1)
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_bounds_that_cannot_be_held_get_reasons():
    wide = VAE(Event((3,), levels=2), latent=3, hidden=(4,))
    known = check_model(MADE(Event((3,), levels=2), hidden=(4,)))
    assert known["bounds in order"].remark == "no latent variables"
    assert check_model(wide)["bounds in order"].remark == "3 latent values, one or two can be integrated over"


def test_more_likely_than_the_truth():
    model = broken.Overclaims(Event((30,), levels=2))
    with pytest.raises(LawsBroken, match=r"not below the limit -\S+ ≥ -3 broken: gap -3\.0"):
        check_model(model, Coins((0.5,) * 30))


def test_a_stated_receptive_field_is_no_blind_spot():
    class Short(broken.Naive):
        def receptive_field(self):
            seen = torch.ones(6, 6, dtype=torch.bool)
            seen[3, 2] = False  # the pixel to the upper right, two columns away
            return seen

    with pytest.raises(LawsBroken) as caught:
        check_model(Short(kernel=3))
    assert {row.name for row in caught.value.table.broken} == LIMITED


class Normal(Density):
    def _log_prob(self, x, context, generator):
        return torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1)

    def _sample(self, n, context, generator):
        return torch.randn(n, *self.event.shape, generator=generator)


class Bound(broken.Overclaims):
    kind = "lower bound"

    def _log_prob(self, x, context, generator):
        return torch.full((len(x),), -0.7 * self.event.dims)


def test_other_densities_get_reasons():
    real = check_model(Normal(Event((2, 3))))
    assert set(real.ran) == REAL
    assert real["proper, float64"].remark == "real values"
    assert real["cost"].remark == "no conditionals, the model is not autoregressive"
    assert real["integrates to one"].remark == "6 dimensions, one or two can be integrated over"
    assert real["invertible, float32"].remark == "no flow"
    assert real["bound within one"].remark == "log_prob is exact"
    bound = check_model(Bound(Event((3,), levels=2)))
    assert bound["proper, float32"].remark == "log_prob is a lower bound"
    assert bound["true samples"].verdict == "not applicable"
    assert bound["bound within one"].value <= 0


def test_nothing_of_the_callers_changes():
    model = MADE(Event((3,), levels=2), hidden=(4,)).train()
    state, noise = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    first, second = check_model(model), check_model(model)
    assert first == second
    assert model.training
    assert torch.equal(noise, torch.get_rng_state())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())


def test_table_prints_and_is_json():
    table = check_model(MADE(Event((3,), levels=2), hidden=(4,)), torch.zeros(2, 3))
    assert str(table).startswith("MADE: 19 laws apply, 0 broken\nproper, float32")
    assert "not below the limit" in repr(table)
    laws = json.loads(json.dumps(table.to_json()))["laws"]
    assert laws[-1] == {
        "name": "not below the limit",
        "value": None,
        "limit": -3.0,
        "at_least": True,
        "verdict": "not applicable",
        "remark": "no source given",
    }
    with pytest.raises(InputError, match="symbols 0 to 1"):
        check_model(MADE(Event((3,), levels=2), hidden=(4,)), torch.full((2, 3), 7))


def test_multiplications_are_counted():
    a, b, v = torch.ones(3, 5), torch.ones(5, 7), torch.ones(5)
    y, z, stack = torch.ones(3, 7), torch.ones(3), torch.ones(2, 3, 7)
    calls = {
        lambda: a @ b: 105,
        lambda: y.addmm(a, b): 105,
        lambda: y.addmm_(a, b): 105,
        lambda: torch.nn.functional.linear(a, b.T, y[0]): 105,
        lambda: stack.baddbmm_(a.expand(2, 3, 5), b.expand(2, 5, 7)): 210,
        lambda: a @ v: 15,
        lambda: z.addmv_(a, v): 15,
        lambda: v @ v: 5,
        lambda: torch.einsum("ij,jk->ik", a, b): 105,
        lambda: torch.nn.functional.conv1d(v.view(1, 1, 5), torch.ones(2, 1, 3)): 18,
    }
    assert [multiplications(call) for call in calls] == list(calls.values())


def test_g_test():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    counts = [torch.multinomial(p, 1000, True, generator=generator).bincount(minlength=4).double() for _ in range(400)]
    values = torch.tensor([g_test(c, 1000 * p) for c in counts])
    assert abs(float((values < 0.1).double().mean()) - 0.1) < 0.05
    assert g_test(counts[0], 1000 * p.flip(0)) < 1e-12
    assert g_test(torch.tensor([1.0, 9.0]), torch.tensor([0.0, 10.0])) == 0


LOAD = """
import sys, numpy, torch, likely
from likely.runs import store
for folder in sys.argv[1:]:
    known = numpy.load(folder + ".npz")
    context = torch.from_numpy(known["context"]) if "context" in known else None
    generator = torch.Generator().manual_seed(0)
    found = store.load(folder).log_prob(torch.from_numpy(known["x"]), context, generator=generator).detach().numpy()
    print((found.view("int32") != known["log_prob"].view("int32")).sum())
"""


def test_log_prob_is_the_same_bits_in_a_fresh_process(tmp_path):
    folders = []
    for k, (build, _) in enumerate(INSTANCES.values()):
        model = fit(build(), *data(build()), steps=3)
        x, context = data(model, 16)
        folders.append(tmp_path / str(k))
        store.save(model, folders[-1])
        given = {} if context is None else {"context": context.numpy()}
        log_prob = model.eval().log_prob(x, context, generator=torch.Generator().manual_seed(0)).detach().numpy()
        np.savez(f"{folders[-1]}.npz", x=x.numpy(), log_prob=log_prob, **given)
    source = Path(store.__file__).parents[2]
    command = [sys.executable, "-c", LOAD, *map(str, folders)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.stdout.split() == ["0"] * len(INSTANCES), done.stderr
