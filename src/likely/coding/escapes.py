"""Values of a chunk that are no symbols of the model: taken out, stored beside the payload, and put back.

    n, m (4 bytes each) · m bytes: gaps (n × 4 bytes) and values (n × bytes of the dtype), stored or by LZMA · payload

The first gap is the first value's number in the chunk, each other one the distance from the number before.
"""

import struct
from typing import NamedTuple

import numpy as np

from likely.coding.records import LZMA, STORED, pack, unpack
from likely.errors import FormatError

HEAD = struct.Struct("<II")
GAP = np.dtype("<u4")
Levels = int | tuple[int, ...]


class Escapes(NamedTuple):
    """Values that are no symbols.

    Attributes:
        places: their numbers among all values of the chunk, in ascending order.
        values: of the chunk's dtype.
    """

    places: np.ndarray
    values: np.ndarray


def outside(values: np.ndarray, levels: Levels) -> np.ndarray:
    """Return where values are no symbols; of alphabets for each column, the last axis is that of the columns."""
    with np.errstate(invalid="ignore"):
        inside = (values >= 0) & (values < np.asarray(levels))
    if values.dtype.kind == "f":
        inside &= values == np.rint(values)
    return ~inside


def taken_out(raw: bytes, dtype: np.dtype, levels: Levels) -> tuple[bytes, Escapes]:
    """Return the bytes of a chunk with symbols in the places of values that are none, and these values."""
    values = np.frombuffer(raw, dtype)
    columns = values.reshape(-1, len(levels)) if isinstance(levels, tuple) else values
    places = np.flatnonzero(outside(columns, levels))
    if not len(places):
        return raw, Escapes(places, values[places])
    replaced = values.copy()
    largest = np.broadcast_to(np.asarray(levels) - 1, columns.shape).reshape(-1)[places]
    found = np.nan_to_num(values[places].astype(np.float64))
    replaced[places] = np.clip(np.rint(found), 0, largest).astype(dtype)
    return replaced.tobytes(), Escapes(places, values[places])


def put_back(raw: bytes, dtype: np.dtype, escapes: Escapes) -> bytes:
    """Return the bytes of a chunk with its own values again.

    Raises:
        FormatError: a place is not in the chunk.
    """
    values = np.frombuffer(raw, dtype).copy()
    if escapes.places[-1] >= len(values):
        raise FormatError("a value that is stored apart belongs beyond the end of its chunk")
    values[escapes.places] = escapes.values
    return values.tobytes()


def written(escapes: Escapes) -> bytes:
    """Return the bytes that stand before a payload."""
    gaps = np.diff(escapes.places, prepend=0).astype(GAP)
    _, packed = pack(gaps.tobytes() + escapes.values.tobytes())
    return HEAD.pack(len(gaps), len(packed)) + packed


def split(payload: bytes, dtype: np.dtype, most: int) -> tuple[Escapes, bytes]:
    """Read what `written` returns, at most so many values; return it, and the payload behind it.

    Raises:
        FormatError: it is damaged.
    """
    if len(payload) < HEAD.size:
        raise FormatError("values that are stored apart are cut off")
    n, length = HEAD.unpack_from(payload)
    packed, rest = payload[HEAD.size : HEAD.size + length], payload[HEAD.size + length :]
    size = n * (GAP.itemsize + dtype.itemsize)
    if not 0 < n <= most or len(packed) != length or length > size:
        raise FormatError(f"{n} values in {length} bytes that are stored apart are not expected here")
    raw = unpack(STORED if length == size else LZMA, packed, size)
    gaps = np.frombuffer(raw, GAP, n).astype(np.int64)
    if (gaps[1:] < 1).any():
        raise FormatError("places of values that are stored apart are not in ascending order")
    return Escapes(gaps.cumsum(), np.frombuffer(raw, dtype, n, n * GAP.itemsize)), rest
