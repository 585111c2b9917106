"""The stack: exact inverses from every state, the same bits from three implementations, nothing lost."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.coding import rans
from likely.coding.rans import Stack
from likely.errors import FormatError

REFERENCE = (rans._push, rans._pop)
needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed")
needs_constriction = pytest.mark.skipif(
    not importlib.util.find_spec("constriction"), reason="constriction is not installed"
)


@pytest.fixture(params=["reference", pytest.param("compiled", marks=needs_numba)])
def coder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "reference":
        monkeypatch.setattr(rans, "_coder", lambda: REFERENCE)
    else:
        assert rans._coder()[0] is not rans._push


def make_table(n: int, k: int, bits: int, seed: int) -> tuple[np.ndarray, int]:
    """Rows of arbitrary frequencies, empty, tiny and certain ones among them: edges (n, k + 1), and their bits."""
    random, total = np.random.default_rng(seed), 1 << bits
    inner = random.integers(0, total + 1, (n, k - 1))
    special = random.choice([0, 1, total // 2, total - 1, total], (n, k - 1))
    inner = np.sort(np.where(random.random((n, k - 1)) < random.random(), special, inner), 1)
    return np.concatenate([np.zeros((n, 1), np.int64), inner, np.full((n, 1), total)], 1), bits


def some_symbols(edges: np.ndarray, seed: int) -> np.ndarray:
    """A symbol of each row that is not impossible, (n,)."""
    random = np.random.default_rng(seed)
    return np.argmax((np.diff(edges) > 0) * random.random((len(edges), edges.shape[1] - 1)), 1)


def drawn(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of 24 bits with no empty symbol, (n, k + 1), and symbols drawn from them, (n,)."""
    random = np.random.default_rng(seed)
    frequencies = np.floor(random.dirichlet(np.full(k, 0.5), n) * (2**24 - k)).astype(np.int64) + 1
    frequencies[:, 0] += 2**24 - frequencies.sum(1)
    edges = np.concatenate([np.zeros((n, 1), np.int64), frequencies.cumsum(1)], 1)
    return edges, (edges[:, 1:] <= random.integers(0, 2**24, (n, 1))).sum(1)


def intervals(edges: np.ndarray, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and frequency of every symbol, (n,) each."""
    row = np.arange(len(symbols))
    return edges[row, symbols], edges[row, symbols + 1] - edges[row, symbols]


seeds = st.integers(0, 2**32 - 1)
states = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(lambda e, d: min(max(2**e + d, 0), 2**64 - 1), st.integers(0, 64), st.integers(-2, 2)),
)
words = st.lists(st.one_of(st.just(0), st.integers(0, 2**16 - 1)), max_size=8)
parts = st.lists(
    st.builds(make_table, st.integers(0, 12), st.integers(1, 9), st.integers(1, 32), seeds), min_size=1, max_size=4
)


@pytest.mark.parametrize("word_bits", [16, 32])
@settings(max_examples=150, deadline=None)
@given(states, words, parts, seeds)
def test_pop_undoes_push(word_bits: int, state: int, words: list[int], parts: list, seed: int) -> None:
    stack, before = Stack(state, words, word_bits=word_bits), Stack(state, words, word_bits=word_bits)
    pushed = [some_symbols(edges, seed) for edges, _ in parts]
    for (edges, bits), symbols in zip(parts, pushed, strict=True):
        stack.push(*intervals(edges, symbols), bits)
    for (edges, bits), symbols in zip(parts[::-1], pushed[::-1], strict=True):
        assert stack.pop(edges, bits).tolist() == symbols.tolist()
    assert stack == before


@pytest.mark.parametrize("word_bits", [16, 32])
@settings(max_examples=150, deadline=None)
@given(states, words, parts)
def test_push_undoes_pop_from_any_state(word_bits: int, state: int, words: list[int], parts: list) -> None:
    stack, before = Stack(state, words, word_bits=word_bits), Stack(state, words, word_bits=word_bits)
    popped = [stack.pop(edges, bits) for edges, bits in parts]  # often beyond the last word
    for (edges, bits), symbols in zip(parts[::-1], popped[::-1], strict=True):
        start, frequency = intervals(edges, symbols)
        assert (frequency > 0).all()
        stack.push(start, frequency, bits)
    assert stack == before


@settings(max_examples=150, deadline=None)
@given(states, words, parts, seeds)
def test_invariant_and_bytes(state: int, words: list[int], parts: list, seed: int) -> None:
    stack = Stack(state, words)
    for edges, bits in parts:
        stack.push(*intervals(edges, some_symbols(edges, seed)), bits)
        stack.pop(make_table(len(edges), 3, bits, seed)[0], bits)
        assert 0 <= stack.state < 2**64
        assert stack.state >= 2**48 or not stack.words
        assert Stack.from_bytes(stack.to_bytes()) == stack


def test_exhausted_stack_goes_on(coder: None) -> None:
    edges, _ = drawn(4000, 5, seed=1)
    stack = Stack(12345)
    symbols = stack.pop(edges)
    assert stack == Stack(0)
    assert (symbols[-100:] == 0).all()
    stack.push(*intervals(edges, symbols))
    assert stack == Stack(12345)


def test_what_is_popped_beyond_the_end_is_owed(coder: None) -> None:
    """24 bits hold 24 symbols of one bit; what is popped after them is owed, and given back by the way back."""
    stack, halves = Stack(1 << 24), np.tile([0, 1 << 23, 1 << 24], (40, 1))
    symbols = stack.pop(halves)
    assert stack.owed == pytest.approx(40 - 24)
    stack.push(*intervals(halves, symbols))
    assert stack == Stack(1 << 24)
    assert stack.owed == pytest.approx(0)
    stack = Stack(0)
    stack.push(*intervals(halves, np.zeros(40, np.int64)))  # all of them own 0
    assert stack == Stack(0)
    assert stack.owed == pytest.approx(-40)


def test_nothing_is_owed_where_there_is_enough(coder: None) -> None:
    edges, symbols = drawn(1000, 5, 3)
    stack = Stack()
    stack.push(*intervals(edges, symbols))
    assert abs(stack.owed) < 1e-3
    stack.pop(edges)
    assert abs(stack.owed) < 1e-3


def test_state_below_words_fetches_them() -> None:
    assert Stack(1, [7, 5]) == Stack((1 << 16 | 5) << 16 | 7)
    assert Stack(0, [9, 0, 0, 0, 0]) == Stack(9)
    assert Stack(1 << 48, [9]).words.tolist() == [9]


def test_certain_symbols_cost_nothing(coder: None) -> None:
    edges = np.array([[0, 0, 2**24, 2**24]] * 1000)
    full = Stack(2**64 - 1, [1, 2, 3])
    stack = Stack(2**64 - 1, [1, 2, 3])
    stack.push(*intervals(edges, np.ones(1000, np.int64)))
    assert stack == full
    assert stack.pop(edges).tolist() == [1] * 1000
    assert stack == full


def test_nothing(coder: None) -> None:
    stack = Stack()
    stack.push(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert stack.pop(np.zeros((0, 17), np.int64)).tolist() == []
    assert stack == Stack()
    assert len(stack.to_bytes()) == 8


def test_one_symbol_by_hand(coder: None) -> None:
    stack = Stack()  # 2^48; a frequency of 1 leaves room for a state below 2^40, and 16 bits move out
    stack.push(np.array([3]), np.array([1]))
    assert stack == Stack((2**32 << 24) + 3, [0])
    assert stack.to_bytes() == bytes([3, 0, 0, 0, 0, 0, 0, 1, 0, 0])
    assert stack.pop(np.array([[0, 3, 4, 2**24]])).tolist() == [1]
    assert stack == Stack()


def test_words_follow_in_the_order_of_popping() -> None:
    stack = Stack(2**48, [0x0102, 0x0304])
    assert stack.to_bytes()[8:] == bytes([4, 3, 2, 1])
    assert Stack.from_bytes(stack.to_bytes()) == stack


def test_uniform_bits_are_stored_as_they_are(coder: None) -> None:
    values = np.arange(256)
    stack = Stack()
    stack.push(values, np.ones(256, np.int64), 8)
    assert len(stack.to_bytes()) == 8 + 256
    assert stack.pop(np.tile(np.arange(257), (256, 1)), 8).tolist() == values.tolist()


@pytest.mark.parametrize("bits", [1, 7, 16, 24, 31, 32, 47, 48])
@pytest.mark.parametrize("state", [0, 2**48, 2**64 - 1])
def test_every_precision(coder: None, bits: int, state: int) -> None:
    edges, _ = make_table(200, 5, bits, seed=bits)
    symbols = some_symbols(edges, seed=3)
    stack = Stack(state)
    stack.push(*intervals(edges, symbols), bits)
    assert stack.pop(edges, bits).tolist() == symbols.tolist()
    assert stack == Stack(state)


@pytest.mark.parametrize("k", [2, 16, 256])
def test_nothing_measurable_is_lost(coder: None, k: int) -> None:
    n = 20_000 if k < 256 else 2_000
    edges, symbols = drawn(n, k, seed=k)
    start, frequency = intervals(edges, symbols)
    stack = Stack()
    stack.push(start, frequency)
    excess = 8 * len(stack.to_bytes()) + np.log2(frequency / 2**24).sum()
    assert 48 - 1e-6 <= excess <= 64 + n * 2**-23  # what a symbol loses is at most 2^-24 nats
    assert stack.pop(edges).tolist() == symbols.tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integers_of_every_kind(coder: None, dtype: type) -> None:
    edges, symbols = drawn(50, 4, seed=0)
    stack = Stack()
    start, frequency = intervals(edges.astype(dtype), symbols)
    stack.push(start, frequency)
    assert stack.pop(np.asfortranarray(edges.astype(dtype))).tolist() == symbols.tolist()
    assert stack == Stack()


@pytest.mark.parametrize(
    ("start", "frequency", "bits"),
    [(0, 0, 24), (5, -1, 24), (-1, 2, 24), (2**24, 1, 24), (2**24 - 1, 2, 24), (0, 2**24 + 1, 24), (2**63 - 1, 1, 8)],
)
def test_wrong_interval_is_refused(coder: None, start: int, frequency: int, bits: int) -> None:
    stack = Stack()
    with pytest.raises(ValueError, match=f"symbol 1 has start {start} and frequency {frequency}"):
        stack.push(np.array([0, start]), np.array([1, frequency]), bits)
    assert stack == Stack()


@pytest.mark.parametrize("row", [[1, 5, 2**24], [0, 5, 2**24 - 1], [0, 5, 2**24 + 1], [0]])
def test_wrong_table_is_refused(coder: None, row: list[int]) -> None:
    stack = Stack()
    with pytest.raises(ValueError, match="row 0 goes from"):
        stack.pop(np.array([row]))
    assert stack == Stack()


@pytest.mark.parametrize("bits", [0, 49, -1])
def test_wrong_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits <= 48, not {bits}"):
        Stack().push(np.array([0]), np.array([1]), bits)
    with pytest.raises(ValueError, match=f"bits <= 48, not {bits}"):
        Stack().pop(np.array([[0, 1]]), bits)


def test_wrong_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="not 24"):
        Stack(word_bits=24)
    for state in (-1, 2**64):
        with pytest.raises(ValueError, match=f"not {state}"):
            Stack(state)


@pytest.mark.parametrize("payload", [b"", b"1234567", b"12345678" + b"3", b"\xff" * 6 + b"\0\0" + b"12"])
def test_wrong_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Stack.from_bytes(payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_any_payload_is_a_stack_or_refused(payload: bytes) -> None:
    edges, _ = drawn(30, 6, seed=9)
    try:
        stack = Stack.from_bytes(payload)
    except FormatError:
        return
    assert stack.to_bytes() == payload
    symbols = stack.pop(edges)
    assert ((symbols >= 0) & (symbols < 6)).all()


def test_damage_shows_in_the_final_state(coder: None) -> None:
    n = 400
    edges, symbols = drawn(n, 16, seed=2)
    seed = 2**48 | 0xDEADBEEF
    stack = Stack(seed)
    stack.push(*intervals(edges, symbols))
    payload, random = stack.to_bytes(), np.random.default_rng(0)
    for bit in random.choice(8 * len(payload), 300, replace=False).tolist():
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            stack = Stack.from_bytes(bytes(damaged))
        except FormatError:
            continue
        stack.pop(edges)
        assert stack != Stack(seed)


@needs_numba
@pytest.mark.parametrize("word_bits", [16, 32])
@settings(max_examples=150, deadline=None)
@given(states, words, parts, seeds)
def test_compiled_equals_reference(word_bits: int, state: int, words: list[int], parts: list, seed: int) -> None:
    def trace(coder: tuple) -> list:
        stack = Stack(state, words, word_bits=word_bits)
        top, below, seen = stack.state, stack.words, []
        for edges, bits in parts:
            top, symbols = coder[1](top, below, edges, bits)
            seen.append((top, below[:], symbols.tolist()))
        for edges, bits in parts:  # not in the order of the pops: other states
            top = coder[0](top, below, *intervals(edges, some_symbols(edges, seed)), bits)
            seen.append((top, below[:]))
        return seen

    assert trace(REFERENCE) == trace(rans._coder())


class Oracle:
    """constriction, handed our integers: of float tables f - 1 with a sum of 2^24 - K its quantiser makes f exactly."""

    def __init__(self, compressed: np.ndarray) -> None:
        import constriction

        self.family = constriction.stream.model.Categorical(perfect=False)
        self.coder = constriction.stream.stack.AnsCoder(compressed)

    def push(self, edges: np.ndarray, symbols: np.ndarray) -> None:
        self.coder.encode_reverse(symbols.astype(np.int32), self.family, np.diff(edges) - 1.0)

    def pop(self, edges: np.ndarray) -> np.ndarray:
        return self.coder.decode(self.family, np.diff(edges) - 1.0)

    @property
    def compressed(self) -> np.ndarray:
        return self.coder.get_compressed()


class Ours:
    """A stack with 32-bit words, by one of our implementations, in constriction's terms."""

    def __init__(self, compressed: np.ndarray, coder: tuple) -> None:
        self.stack, self.implementation = Stack(0, compressed.tolist(), word_bits=32), coder

    def push(self, edges: np.ndarray, symbols: np.ndarray) -> None:
        push, stack = self.implementation[0], self.stack
        stack.state = push(stack.state, stack.words, *intervals(edges, symbols), 24)

    def pop(self, edges: np.ndarray) -> np.ndarray:
        pop, stack = self.implementation[1], self.stack
        stack.state, symbols = pop(stack.state, stack.words, edges, 24)
        return symbols

    @property
    def compressed(self) -> np.ndarray:
        both = [*self.stack.words, self.stack.state & (2**32 - 1), self.stack.state >> 32]
        while both and both[-1] == 0:  # it leaves zeros out
            both.pop()
        return np.array(both, np.uint32)


IMPLEMENTATIONS = {
    "reference": lambda compressed: Ours(compressed, REFERENCE),
    "compiled": lambda compressed: Ours(compressed, rans._coder()),
    "constriction": Oracle,
}


@needs_numba
@needs_constriction
@pytest.mark.parametrize("encoder", IMPLEMENTATIONS)
@pytest.mark.parametrize("decoder", IMPLEMENTATIONS)
@pytest.mark.parametrize("k", [2, 16, 256])
@pytest.mark.parametrize("seed", [[], [0, 1], [1, 2, 3], [17], list(range(1, 90))])
def test_equal_to_constriction(encoder: str, decoder: str, k: int, seed: list[int]) -> None:
    compressed = np.array(seed, np.uint32)
    edges, symbols = drawn(300, k, seed=k)
    oracle = Oracle(compressed)
    one = IMPLEMENTATIONS[encoder](compressed)
    for stack in (oracle, one):
        stack.push(edges, symbols)
    assert one.compressed.tolist() == oracle.compressed.tolist()
    two = IMPLEMENTATIONS[decoder](one.compressed)
    assert two.pop(edges).tolist() == symbols.tolist()
    assert two.compressed.tolist() == seed
    assert two.pop(edges).tolist() == Oracle(compressed).pop(edges).tolist()


def test_works_without_numba_and_imports_it_late() -> None:
    code = (
        "import sys, numpy as np; from likely.coding.rans import Stack; assert 'numba' not in sys.modules;"
        "sys.modules['numba'] = None; s = Stack(); s.push(np.array([1]), np.array([2]));"
        "assert s.pop(np.array([[0, 1, 3, 2**24]])).tolist() == [1]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
