"""What the command line says of itself is whole in a terminal of eighty columns."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from starter.cli import app


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every command and group with its path."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)


EVERY = list(commands(typer.main.get_command(app)))


def packed(text: str) -> str:
    """Leave out what depends on where a line ends."""
    return "".join(text.split())


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "shaodao" for path, _ in EVERY])
def test_no_text_of_the_help_is_cut_and_everything_is_explained(path: tuple[str, ...], command: Any) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0, done.output
    said = packed(done.output)
    assert packed(command.help) in said
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert packed(parameter.help) in said
    for below in getattr(command, "commands", {}).values():
        assert packed(below.help.split("\n\n")[0]) in said
