"""How many rows pass between Python and SQLite in one step: as one JSON array and one blob.

Python's sqlite3 gives the GIL away several times for each row and waits up to 5 ms to have it
back; row by row, a busy event loop would slow a store to a few writes a second.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# The longest text or blob that a connection may make: pages of rows grow shorter to fit.
MAX_BYTES = 64 << 20
_PAGE = 4096
_PACK_ROWS = 50_000
_PACK_BYTES = 16 << 20

Cell = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns to read: those that JSON can hold, and blobs."""

    plain: tuple[str, ...]
    blobs: tuple[str, ...] = ()


def pack(rows: Iterable[Sequence[Cell]]) -> Iterator[tuple[str, bytes]]:
    """Rows as parameters ?1 (JSON) and ?2 (blob), as many pairs as needed.

    Bytes stand in the JSON as [offset, length] of the blob, to be cut out by `blob(place)`.
    """
    packer = _Packer()
    for row in rows:
        packer.add(row)
        if len(packer.cells) >= _PACK_ROWS or packer.size >= _PACK_BYTES:
            yield packer.packed()
            packer = _Packer()
    if packer.cells:
        yield packer.packed()


def pack_list(values: Iterable[object]) -> str:
    """Values without bytes as one JSON parameter."""
    return _dump(list(values))


def cell(place: int) -> str:
    """SQL for a plain cell of a packed row."""
    return f"json_extract(json_each.value, '$[{place}]')"


def blob(place: int) -> str:
    """SQL for the bytes (or NULL) of a packed row."""
    start = f"json_extract(json_each.value, '$[{place}][0]')"
    return f"substr(?2, {start}, json_extract(json_each.value, '$[{place}][1]'))"


def fetch(
    connection: sqlite3.Connection,
    columns: Columns,
    source: str,
    parameters: Sequence[str | int],
) -> list[list[Any]]:
    """All rows of a selection: their plain cells, then their blobs."""
    cells = ", ".join((*columns.plain, *(f"length({name})" for name in columns.blobs)))
    # Joined as text, which SQLite does byte by byte, and cut again by length.
    joins = "".join(f", CAST(group_concat({name}, '') AS BLOB)" for name in columns.blobs)
    query = f"SELECT json_group_array(json_array({cells})){joins} FROM ({source})"
    text, *joined = connection.execute(query, parameters).fetchone()
    rows: list[list[Any]] = json.loads(text)
    for place, blobs in enumerate(joined, len(columns.plain)):
        _cut(rows, place, blobs)
    return rows


def pages(
    connection: sqlite3.Connection,
    columns: Columns,
    source: str,
    start: tuple[str | int, ...],
) -> Iterator[tuple[list[list[Any]], bool]]:
    """All rows of a selection, in pages that fit, and whether more are to come.

    `source` takes as parameters where to go on after: the first columns of the row before.
    """
    limit = _PAGE
    is_more = True
    while is_more:
        try:
            rows = fetch(connection, columns, f"{source} LIMIT {limit}", start)
        except sqlite3.DataError:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
            continue
        is_more = len(rows) == limit
        yield rows, is_more
        start = tuple(rows[-1][: len(start)]) if rows else start


class _Packer:
    def __init__(self) -> None:
        self.cells: list[list[Any]] = []
        # Never empty: SQLite cuts NULL, not an empty blob, out of an empty one.
        self.parts = [b"\0"]
        self.size = 1

    def add(self, row: Sequence[Cell]) -> None:
        self.cells.append([self._place(c) if isinstance(c, bytes) else c for c in row])

    def _place(self, part: bytes) -> tuple[int, int]:
        start = self.size + 1
        self.parts.append(part)
        self.size += len(part)
        return start, len(part)

    def packed(self) -> tuple[str, bytes]:
        return _dump(self.cells), b"".join(self.parts)


def _cut(rows: list[list[Any]], place: int, blobs: bytes) -> None:
    start = 0
    for row in rows:
        if row[place] is not None:
            end = start + row[place]
            row[place] = blobs[start:end]
            start = end


def _dump(value: list[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
