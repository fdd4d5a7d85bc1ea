"""How meshctl prints: tables for people, JSON for programs. Nothing is cut where nobody looks."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

_WIDE = 4096


def console() -> Console:
    """The terminal; where there is none, wide and without colour."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(width=_WIDE, highlight=False, no_color=True, force_terminal=False)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = ""
) -> Table:
    """A table; columns whose name begins with '>' are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption or None)
    for column in columns:
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=not sys.stdout.isatty(),
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    console().print(make_table(columns, rows))


def print_json(value: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2))


def as_dict(message: Message) -> dict[str, Any]:
    """A message with all its fields, names as in the protos."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
