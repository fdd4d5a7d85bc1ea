"""How many rows pass between Python and SQLite in one step: as one JSON array and one blob.

Python's sqlite3 gives the GIL away several times for each row and waits up to 5 ms to have it
back; row by row, a busy event loop would slow a store to a few writes a second.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

# The longest text or blob that a connection may make: pages of rows grow shorter to fit.
MAX_BYTES = 64 << 20
_PAGE = 8192
_PACK_ROWS = 50_000
_PACK_BYTES = 16 << 20

Cell = str | int | float | bytes | None


def pack(rows: Iterable[Sequence[Cell]]) -> Iterator[tuple[str, bytes]]:
    """Rows as parameters ?1 (JSON) and ?2 (blob), as many pairs as needed.

    Bytes stand in the JSON as [offset, length] of the blob, to be cut out by `blob(place)`.
    """
    cells: list[list[Any]] = []
    parts: list[bytes] = []
    size = 0
    for row in rows:
        packed: list[Any] = []
        for cell in row:
            if isinstance(cell, bytes):
                packed.append([size + 1, len(cell)])
                parts.append(cell)
                size += len(cell)
            else:
                packed.append(cell)
        cells.append(packed)
        if len(cells) >= _PACK_ROWS or size >= _PACK_BYTES:
            yield _dump(cells), b"".join(parts)
            cells, parts, size = [], [], 0
    if cells:
        yield _dump(cells), b"".join(parts)


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


def hexed(column: str) -> str:
    """SQL for a blob as JSON can hold it; hex(NULL) alone would be an empty text."""
    return f"iif({column} IS NULL, NULL, hex({column}))"


def unhex(text: str | None) -> bytes | None:
    """The blob of a `hexed` column."""
    return None if text is None else bytes.fromhex(text)


def fetch(
    connection: sqlite3.Connection, columns: str, source: str, parameters: Sequence[str | int]
) -> list[list[Any]]:
    """All rows of a selection, their columns as JSON can hold them."""
    query = f"SELECT json_group_array(json_array({columns})) FROM ({source})"
    rows: list[list[Any]] = json.loads(connection.execute(query, parameters).fetchone()[0])
    return rows


def pages(
    connection: sqlite3.Connection, columns: str, source: str, start: tuple[str | int, ...]
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


def _dump(value: list[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
