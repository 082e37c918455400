"""PostgreSQL's COPY in binary, read: fields of rows into columns, many rows at once.

A row is a count of fields and then each field as its length and its bytes; a length of -1 is NULL. Where a
field begins depends on those before it, so columns are decoded from left to right, each for all rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import Boolean, Float, String
from sqlalchemy.types import TypeEngine

from crm_core.clock import DAY
from crm_core.columns import Day, Instant, Json, Money, PackedJson
from crm_core.packing import unpack_json

NO_INTEGER: Final = np.iinfo(np.int64).min

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
_HEADER: Final = len(_SIGNATURE) + 8
_TRAILER: Final = 2
"""Bytes that end a copy; a row has more."""

_BUNCH: Final = 16_384
"""Rows that are decoded together."""

_REMEMBERED: Final = 50_000
"""Different texts of a column that are kept to be used again."""

_Ints = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]
_INTEGERS: Final = {2: ">i2", 4: ">i4", 8: ">i8"}
_FLOATS: Final = {4: ">f4", 8: ">f8"}
_FLAGS: Final = {1: "i1"}

Decode = Callable[["Rows", _Ints, _Ints], _Array]
"""Given rows, where a field begins in each and how long it is, -1 for NULL, return the column."""


class Rows:
    """Copied rows, one after the other in one text of bytes."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.data = b"".join(messages)
        sizes = np.fromiter(map(len, messages), np.int64, len(messages))
        self.starts = np.cumsum(sizes) - sizes

    def numbers(self, starts: _Ints, dtype: str) -> _Array:
        """Return the number of type `dtype` that begins at each place."""
        kind = np.dtype(dtype)
        # Every byte begins a number in this view, and only those that were asked for are looked at.
        everywhere = np.ndarray(len(self.data) - kind.itemsize + 1, kind, self.data, strides=(1,))
        return everywhere[starts]

    def fields(self, count: int) -> Iterator[tuple[_Ints, _Ints]]:
        """Yield where each field begins in every row, and how long it is there, -1 for NULL."""
        at = self.starts + 2
        for _ in range(count):
            sizes = self.numbers(at, ">i4").astype(np.int64)
            at = at + 4
            yield at, sizes
            at = at + np.maximum(sizes, 0)


class CopiedColumns:
    """Takes in a copy of rows, and holds their columns in parts."""

    def __init__(self, decoders: Sequence[Decode]) -> None:
        self.parts: list[list[_Array]] = [[] for _ in decoders]
        self._decoders = decoders

    def take(self, copy: psycopg.Copy) -> None:
        """Read the copy to its end."""
        for messages in _bunches(copy):
            self._decode(Rows(messages))

    def _decode(self, rows: Rows) -> None:
        fields = rows.fields(len(self._decoders))
        for part, decode, (starts, sizes) in zip(self.parts, self._decoders, fields, strict=True):
            part.append(decode(rows, starts, sizes))


def _bunches(copy: psycopg.Copy) -> Iterator[list[bytes]]:
    """Yield the rows of a copy as the server sent them, so many together as are decoded at once."""
    # Straight from libpq: what psycopg does around each row would take longer than decoding it. Only what has
    # not come yet is left to psycopg, as it waits without keeping other threads from running.
    receive = copy.connection.pgconn.get_copy_data
    message = memoryview(copy.read())[_HEADER:]
    size = len(message)
    bunch: list[bytes] = []
    while size > _TRAILER:
        bunch.append(bytes(message))  # thousands of libpq's own buffers, held, would take three times as long
        if len(bunch) == _BUNCH:
            yield bunch
            bunch = []
        size, message = receive(1)
        if size == 0:
            message = memoryview(copy.read())
            size = len(message)
    if size < 0:
        raise _broken_off(copy)
    copy.read()
    if bunch:
        yield bunch


def _broken_off(copy: psycopg.Copy) -> psycopg.Error:
    """Return the server's reason for not sending the rest; the connection can be used again."""
    results = list(iter(copy.connection.pgconn.get_result, None))
    if not results:
        return psycopg.OperationalError("the server ended a copy before its last row")
    return psycopg.errors.error_from_result(results[0])


def decoder_of(kind: TypeEngine[Any]) -> Decode | None:
    """Return what decodes a column of a type; None for a type that is not read this way."""
    if isinstance(kind, Boolean):
        return _decode_flags
    if isinstance(kind, Float):
        return _decode_floats
    if isinstance(kind, Day):
        return _decode_days
    if is_integer(kind):
        return _decode_integers
    if isinstance(kind, Json):
        return _decode_packed if isinstance(kind, PackedJson) else _JsonDecoder()
    return _TextDecoder() if isinstance(kind, String) else None


def is_integer(kind: TypeEngine[Any]) -> bool:
    """Tell whether values of a type are stored as integers."""
    if isinstance(kind, Instant | Day | Money):
        return True
    try:
        return kind.python_type is int
    except NotImplementedError:
        return False


def _decode_integers(rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
    return _numbers(rows, starts, sizes, _INTEGERS, np.int64(NO_INTEGER))


def _decode_days(rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
    days = _decode_integers(rows, starts, sizes)
    return np.where(days == NO_INTEGER, NO_INTEGER, days * DAY)


def _decode_floats(rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
    return _numbers(rows, starts, sizes, _FLOATS, np.float64(np.nan))


def _decode_flags(rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
    return _numbers(rows, starts, sizes, _FLAGS, np.float64(np.nan))


def _numbers(
    rows: Rows, starts: _Ints, sizes: _Ints, types: Mapping[int, str], missing: np.int64 | np.float64
) -> _Array:
    """Return a column of numbers, of which one type goes with each width, in the type of `missing`."""
    known = sizes >= 0
    if not known.any():
        return np.full(sizes.size, missing)
    dtype = types[int(sizes.max())]
    if known.all():
        return rows.numbers(starts, dtype).astype(missing.dtype)
    values = rows.numbers(np.where(known, starts, 0), dtype).astype(missing.dtype)
    values[~known] = missing
    return values


def _decode_packed(rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
    array = np.empty(sizes.size, dtype=object)
    array[:] = [
        None if size < 0 else json.loads(unpack_json(rows.data[start : start + size]))
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
    return array


class _Remembered(dict[bytes, str]):
    """Texts by their bytes; the few that a column of words is made of become one object each."""

    def __missing__(self, data: bytes) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        text = self[data] = data.decode()
        return text


class _TextDecoder:
    """Decodes a column of texts."""

    def __init__(self) -> None:
        self._texts = _Remembered()

    def __call__(self, rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
        data = rows.data
        ends = starts + sizes
        cells = [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        array = np.empty(sizes.size, dtype=object)
        array[:] = list(map(self._texts.__getitem__, cells))
        array[sizes < 0] = None
        return array


class _JsonDecoder:
    """Decodes a column of JSON values, each of them an object of its own."""

    def __init__(self) -> None:
        self._texts = _TextDecoder()

    def __call__(self, rows: Rows, starts: _Ints, sizes: _Ints) -> _Array:
        texts = self._texts(rows, starts, sizes)
        array = np.empty(texts.size, dtype=object)
        array[:] = [None if text is None else json.loads(text) for text in texts.tolist()]
        return array
