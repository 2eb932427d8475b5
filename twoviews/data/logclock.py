"""The times of a log: as whole numbers, and what their size says of their unit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .logcolumns import decoded

if TYPE_CHECKING:
    import pyarrow as pa

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")  # since 1970
EDGES = np.array([10**8, 10**11, 10**14, 10**17])  # seconds are taken for such from 1973 to 5138, and so on
FUTURE = "times in the future"
MIXED = "times in {} among times in {}"
EARLY = "times before 1973 among times in {}"
LARGEST = 9e18  # that int64 holds
ROWS = 2**22  # looked at together
PATTERNS = (
    ("int64", r"^[+-]?\d{1,19}$"),
    ("float64", r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"),
    ("moment", r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?$"),
    ("zoned", r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)$"),
)


def moments(column: Any, where: str, strict: bool = True) -> pa.Array:
    """A column as int64 or float64, null where there is none: numbers as they are, dates in microseconds since 1970.

    Raises DataError where, strictly, no value of text is a number or a date as ISO 8601 has them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = decoded(column)
    kind = column.type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.uint64():
        column = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.less(pc.abs(column), pa.scalar(LARGEST)), column, None)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    if pa.types.is_null(kind):
        return column.cast(pa.int64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _written(column, where, strict)
    raise DataError(f"{where} holds {kind}, which is no time; give data.time=NAME of numbers or dates")


def _written(text: Any, where: str, strict: bool) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    nanoseconds = pa.timestamp("ns")
    for kind in (pa.int64(), pa.float64(), _kind("moment"), _kind("zoned"), nanoseconds, pa.timestamp("ns", "UTC")):
        try:
            return moments(text.cast(kind), where)
        except pa.ArrowInvalid:
            continue
    text = pc.utf8_trim_whitespace(text)  # a few cannot be read: those of the commonest kind are kept
    fits: list[Any] = [pc.fill_null(pc.match_substring_regex(text, pattern), False) for _, pattern in PATTERNS]
    best = int(np.argmax([pc.sum(fit).as_py() or 0 for fit in fits]))
    if strict and not pc.any(fits[best]).as_py():
        example = text.drop_null()[0].as_py()
        raise DataError(f"{where} holds '{example}', which is neither a number nor a date like 2024-12-31 23:59:59")
    return moments(_lenient(pc.if_else(fits[best], text, None), _kind(PATTERNS[best][0])), where)


def _lenient(text: Any, kind: Any) -> Any:
    """Cast, with null where a value does not exist, such as 2023-02-30."""
    import pyarrow as pa

    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        half = len(text) // 2
        if not half:
            return pa.nulls(1, kind)
        return pa.concat_arrays([_lenient(text[:half], kind), _lenient(text[half:], kind)])


def _kind(name: str) -> Any:
    import pyarrow as pa

    dates = {"moment": pa.timestamp("us"), "zoned": pa.timestamp("us", "UTC")}
    return dates.get(name) or getattr(pa, name)()


def whole(times: list[np.ndarray]) -> None:
    """Make all chunks int64, in place. Numbers with fractions are millionths then, or as fine as fits."""
    factor = 1 if all(chunk.dtype == np.int64 or (chunk == np.floor(chunk)).all() for chunk in times) else 10**6
    while factor > 1 and max(np.abs(chunk).max(initial=0) for chunk in times) * factor > LARGEST:
        factor //= 10
    for i, chunk in enumerate(times):
        if chunk.dtype != np.int64 or factor != 1:
            times[i] = np.rint(chunk * factor).astype(np.int64)


def unit(times: np.ndarray) -> int | None:
    """The place in UNITS of what most times look like; None for other numbers, such as 1, 2, 3."""
    kinds = _kinds(times)
    return int(kinds.argmax()) - 1 if len(times) and kinds.argmax() else None


def warnings(times: np.ndarray) -> dict[str, int]:
    """Of times since 1970: how many are in another unit than most, and how many are yet to come."""
    kinds = _kinds(times)
    best = int(kinds.argmax())
    if not len(times) or not best:
        return {}
    name = UNITS[best - 1]
    tomorrow, end = (time.time() + 86_400) * 1000 ** (best - 1), float(EDGES[best - 1]) * 1000
    late = sum(int(((chunk > tomorrow) & (chunk < end)).sum()) for chunk in _chunks(times))
    out = {MIXED.format(UNITS[k - 1], name): int(kinds[k]) for k in range(1, 5) if k != best}
    out = {**out, EARLY.format(name): int(kinds[0]), FUTURE: late}
    return {words: n for words, n in out.items() if n}


def _kinds(times: np.ndarray) -> np.ndarray:
    """(5,) how many times are small numbers, and look like each of UNITS."""
    counts = np.zeros(5, np.int64)
    for chunk in _chunks(times):
        counts += np.bincount(np.searchsorted(EDGES, np.abs(chunk), side="right"), minlength=5)
    return counts


def _chunks(times: np.ndarray) -> list[np.ndarray]:
    return [times[begin : begin + ROWS] for begin in range(0, len(times), ROWS)]
