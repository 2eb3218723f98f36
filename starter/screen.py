"""How the command line prints: ids, commands and paths are never broken, so that they can be copied and searched for."""

import os
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 10_000
_BORDER = 3
"""Cells that a column takes beside what stands in it."""
_LEAST_FOR_WORDS = 24


def console(*, stderr: bool = False) -> Console:
    """Return a console that leaves it to the terminal to break lines, and in pipes and files breaks none.

    Tables keep to the width of the terminal; elsewhere to `COLUMNS` where that is set, else they take what they need.
    """
    made = Console(stderr=stderr, soft_wrap=True)
    if made.is_terminal or os.environ.get("COLUMNS"):
        return made
    return Console(stderr=stderr, soft_wrap=True, width=_WIDE)


def aligned(rows: Iterable[tuple[str, str]], *, gap: int = 2) -> Text:
    """Return lines of a subject (markup) and what is said of it, which no width breaks."""
    read = [(Text.from_markup(subject), said) for subject, said in rows]
    widest = max((cell_len(subject.plain) for subject, _ in read), default=0)
    lines = [
        Text.assemble(subject, " " * (widest - cell_len(subject.plain) + gap), said) for subject, said in read
    ]
    return Text("\n").join(lines)


def listed(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table | Text:
    """Return rows as a table in which only the last column is broken into lines, or as paragraphs where that is too wide.

    In a paragraph stand all but the last two columns in the first line, and each of these below, by itself.
    """
    widest = [max(map(_width, column)) for column in zip(columns, *rows, strict=True)]
    if sum(widest[:-1]) + _BORDER * len(columns) + 1 + min(widest[-1], _LEAST_FOR_WORDS) > width:
        return Text("\n").join(_paragraph(columns, row) for row in rows)
    table = Table()
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def _paragraph(columns: Sequence[str], row: Sequence[str]) -> Text:
    *head, below, words = row
    named = f"  {columns[-2]}:{below.replace(chr(10), ';')}"
    return Text("\n").join((Text("  ".join(head), style="bold"), Text(f"  {words}"), Text(named)))
