"""The entropy coder: a 64-bit rANS stack over integer (start, frequency) pairs.

A symbol that owns [start, start + frequency) of [0, 2^bits) has the probability p = frequency / 2^bits:

    push    x → 2^bits ⌊x / frequency⌋ + x mod frequency + start        x grows by the factor 1/p
    pop     x → frequency ⌊x / 2^bits⌋ + x mod 2^bits − start           its inverse

The state x < 2^64 is kept small by words of w bits: push first moves low words out until the new state will fit, pop
fetches them back. With L = 2^(64 − w), the invariant is

    x ≥ L, or there are no words;

under it push and pop are exact inverses of one another in either order, for every x from 0 up. Push never lets a new
state reach 2^64, and leaves x ≥ L if it moved a word out. Pop without words fetches nothing: the state shrinks, at
last to 0. It stays 0 and goes on giving the symbol that owns 0; pushing those symbols again brings all back.
(A state below L on top of words is brought to the invariant by fetching words: the same number, written otherwise.)

Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of arithmetic
coding (Duda, 2013), https://arxiv.org/abs/1311.2540. With 32-bit words and 24 bits the stack is that of the package
`constriction`. With the 16-bit words of files, coding loses nothing measurable (at most 2^(bits − 48)
nats a symbol).
"""

import functools
import inspect
import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from likely.errors import FormatError

Words = array  # of unsigned integers, the bottom of the stack first
TYPECODES = {16: "H", 32: "I"}


class Stack:
    """A stack of symbols: a state in [0, 2^64) on top of words of `word_bits` bits (16 in all files, or 32).

    Args:
        state: the first; popping everything that was pushed returns to it.
        words: words below the state, the bottom first.

    Attributes:
        owed: bits that the stack holds beyond those pushed less those popped, at −log2 p a symbol. It changes
            only without words, where a pop takes more bits than there are and its inverse gives them back.

    Raises:
        ValueError: the state is not in [0, 2^64), or the words are not of 16 or 32 bits.
    """

    def __init__(self, state: int = 1 << 48, words: Iterable[int] = (), *, word_bits: int = 16) -> None:
        if word_bits not in TYPECODES:
            raise ValueError(f"words have 16 or 32 bits, not {word_bits}")
        if not 0 <= state < 1 << 64:
            raise ValueError(f"a state is at least 0 and below 2^64, not {state}")
        self.word_bits = word_bits
        self.words: Words = array(TYPECODES[word_bits], words)
        self.state = _refilled(state, self.words, word_bits)
        self.owed = 0.0

    def push(self, starts: Integer[np.ndarray, "n"], frequencies: Integer[np.ndarray, "n"], bits: int = 24) -> None:
        """Push n symbols, the last one first, so that popping returns them first to last.

        Each owns [start, start + frequency) of [0, 2^bits).

        Raises:
            ValueError: a frequency is below 1, or an interval leaves [0, 2^bits); nothing was pushed then.
        """
        self._check_bits(bits)
        starts, frequencies = starts.astype(np.int64), frequencies.astype(np.int64)
        wrong = (frequencies < 1) | (starts < 0) | (starts > (1 << bits) - frequencies)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"symbol {i} has start {starts[i]} and frequency {frequencies[i]}: "
                f"0 <= start, 1 <= frequency and start + frequency <= 2^{bits} are expected"
            )
        before = self._bits
        self.state = _coder()[0](self.state, self.words, starts, frequencies, bits)
        self.owed += self._bits - before - _cost(frequencies, bits)

    def pop(self, cumulative: Integer[np.ndarray, "n edges"], bits: int = 24) -> Int64[np.ndarray, "n"]:
        """Pop n symbols, first to last.

        Args:
            cumulative: a row per symbol, 0 = F(0) ≤ F(1) ≤ … ≤ F(K) = 2^bits; symbol k owns [F(k), F(k + 1)), and
                is never returned where that is empty.

        Raises:
            ValueError: a row does not begin with 0 or does not end with 2^bits; nothing was popped then.
        """
        self._check_bits(bits)
        table = np.ascontiguousarray(cumulative, np.int64)
        wrong = (table[:, 0] != 0) | (table[:, -1] != 1 << bits)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(f"row {i} goes from {table[i, 0]} to {table[i, -1]}; from 0 to 2^{bits} is expected")
        before = self._bits
        self.state, symbols = _coder()[1](self.state, self.words, table, bits)
        rows = np.arange(len(table))
        self.owed += self._bits - before + _cost(table[rows, symbols + 1] - table[rows, symbols], bits)
        return symbols

    def to_bytes(self) -> bytes:
        """The state (8 bytes), then the words in the order of popping; all little endian."""
        words = np.array(self.words[::-1], f"<u{self.word_bits // 8}")
        return self.state.to_bytes(8, "little") + words.tobytes()

    @classmethod
    def from_bytes(cls, payload: bytes, *, word_bits: int = 16) -> "Stack":
        """The inverse of `to_bytes`.

        Raises:
            FormatError: no stack is written like this: a length that does not fit, or a state too small to have
                words below it.
        """
        size = word_bits // 8
        if len(payload) < 8 or len(payload) % size:
            raise FormatError(f"a stack has 8 bytes and then words of {size}; {len(payload)} bytes are left of it")
        state = int.from_bytes(payload[:8], "little")
        if state < 1 << (64 - word_bits) and len(payload) > 8:
            raise FormatError(f"damaged stack: the state {state} cannot have words below it")
        return cls(state, np.frombuffer(payload[:7:-1], f">u{size}").tolist(), word_bits=word_bits)

    @property
    def spent(self) -> bool:
        """Whether there are no words and the state is below L: whatever is popped then, it stays so."""
        return not self.words and self.state < 1 << (64 - self.word_bits)

    @property
    def _bits(self) -> float:
        return self.word_bits * len(self.words) + math.log2(max(self.state, 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stack) and (self.state, self.words) == (other.state, other.words)

    def __repr__(self) -> str:
        return f"Stack(state={self.state:#x}, {len(self.words)} words of {self.word_bits} bits)"

    def _check_bits(self, bits: int) -> None:
        if not 1 <= bits <= 64 - self.word_bits:
            raise ValueError(f"frequencies add up to 2^bits with 1 <= bits <= {64 - self.word_bits}, not {bits}")


def _cost(frequencies: Int64[np.ndarray, "n"], bits: int) -> float:
    """−log2 p of all symbols."""
    return bits * len(frequencies) - float(np.log2(frequencies).sum())


def _refilled(state: int, words: Words, word_bits: int) -> int:
    while state < 1 << (64 - word_bits) and words:
        state = state << word_bits | words.pop()
    return state


def _push(state: int, words: Words, starts: np.ndarray, frequencies: np.ndarray, bits: int) -> int:
    """The reference; changes `words`."""
    word_bits = 8 * words.itemsize
    mask, room, total = (1 << word_bits) - 1, 64 - bits, 1 << bits
    for start, frequency in zip(starts[::-1].tolist(), frequencies[::-1].tolist(), strict=True):
        while state >> room >= frequency:
            words.append(state & mask)
            state >>= word_bits
        state += state // frequency * (total - frequency) + start
    return state


def _pop(state: int, words: Words, cumulative: np.ndarray, bits: int) -> tuple[int, np.ndarray]:
    """The reference; changes `words`."""
    word_bits = 8 * words.itemsize
    mask, low = (1 << bits) - 1, 1 << (64 - word_bits)
    n, edges = cumulative.shape
    flat, symbols = cumulative.reshape(-1).data, []  # bisects a row without a list of it
    for row in range(0, n * edges, edges):
        value = state & mask
        end = bisect_right(flat, value, row, row + edges)
        start = flat[end - 1]
        state = (flat[end] - start) * (state >> bits) + value - start
        while state < low and words:
            state = state << word_bits | words.pop()
        symbols.append(end - 1 - row)
    return state, np.array(symbols, np.int64)


# The compiled twin has the same bits. Numba makes a float of a signed and an unsigned integer, so that every number
# below that meets the state is unsigned.


def _push_loop(state, out, starts, frequencies, bits, word_bits):
    count = 0
    room = np.uint64(64) - bits
    for i in range(len(starts) - 1, -1, -1):
        frequency = np.uint64(frequencies[i])
        while state >> room >= frequency:
            out[count] = state & ((np.uint64(1) << word_bits) - np.uint64(1))
            count += 1
            state >>= word_bits
        quotient = state // frequency
        state = (quotient << bits) + (state - quotient * frequency) + np.uint64(starts[i])
    return state, count


def _pop_loop(state, words, cumulative, bits, word_bits, symbols):
    left = len(words)
    low = np.uint64(1) << (np.uint64(64) - word_bits)
    for i in range(len(symbols)):
        value = state & ((np.uint64(1) << bits) - np.uint64(1))
        symbol, above = 0, cumulative.shape[1] - 1
        while above - symbol > 1:
            middle = (symbol + above) // 2
            if np.uint64(cumulative[i, middle]) <= value:
                symbol = middle
            else:
                above = middle
        start = np.uint64(cumulative[i, symbol])
        state = (np.uint64(cumulative[i, above]) - start) * (state >> bits) + value - start
        while state < low and left > 0:
            left -= 1
            state = (state << word_bits) | np.uint64(words[left])
        symbols[i] = symbol
    return state, len(words) - left


def _push_compiled(
    loop: Callable, state: int, words: Words, starts: np.ndarray, frequencies: np.ndarray, bits: int
) -> int:
    """As `_push`."""
    word_bits = 8 * words.itemsize
    out = np.empty(len(starts) * -(-bits // word_bits), f"u{words.itemsize}")
    new, count = loop(np.uint64(state), out, starts, frequencies, np.uint64(bits), np.uint64(word_bits))
    words.frombytes(out[:count].tobytes())
    return int(new)


def _pop_compiled(
    loop: Callable, state: int, words: Words, cumulative: np.ndarray, bits: int
) -> tuple[int, np.ndarray]:
    """As `_pop`."""
    word_bits = 8 * words.itemsize
    most = len(cumulative) * -(-bits // word_bits)
    tail = np.array(words[max(len(words) - most, 0) :], f"u{words.itemsize}")
    symbols = np.empty(len(cumulative), np.int64)
    new, used = loop(np.uint64(state), tail, cumulative, np.uint64(bits), np.uint64(word_bits), symbols)
    del words[len(words) - used :]
    return int(new), symbols


@functools.cache
def _coder() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Push and pop: compiled where numba works, else the reference."""
    try:
        from numba import njit

        compiled = njit(cache=True, nogil=True)
        push, pop = (compiled(inspect.unwrap(loop)) for loop in (_push_loop, _pop_loop))  # of a type checker's wrapper
        return functools.partial(_push_compiled, push), functools.partial(_pop_compiled, pop)
    except (ImportError, RuntimeError):  # absent, of another numpy, or with no folder for its compiled code
        return _push, _pop


def compile_coder() -> None:
    """Import and compile now, so that the first symbols need not wait."""
    stack = Stack()
    stack.push(np.zeros(1, np.int64), np.ones(1, np.int64))
    stack.pop(np.array([[0, 1 << 24]]))
