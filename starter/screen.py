"""How the command line prints: ids, commands and paths are never broken, so that they can be copied and searched for."""

import os
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_WIDE = 10_000


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
