"""How errors end: one message, an exit code, and no traceback unless asked for."""

from __future__ import annotations

import errno

import click
import pytest
from click.testing import CliRunner, Result

from layertracer import RunError
from layertracer.cli._exit_codes import CommandLine, command_line, debug_option, explain_interruption


@click.group(cls=CommandLine)
@debug_option
def program() -> None:
    """A program whose commands fail."""


@program.command()
@debug_option
def bug() -> None:
    """Fail as nobody expected."""
    raise KeyError("first line\nsecond line")


@program.command()
def mistake() -> None:
    """Fail by a user's mistake."""
    raise RunError("There is no run at x. Give another path.")


@program.command()
def disk() -> None:
    """Fail by the disk."""
    raise OSError(errno.ENOSPC, "No space left on device", "x.html")


@program.command()
@click.option("--explain", default=None)
@click.pass_context
def stop(context: click.Context, /, explain: str | None) -> None:
    """Be interrupted."""
    if explain:
        explain_interruption(context, explain)
    raise KeyboardInterrupt


@program.command()
@click.argument("words", nargs=-1)
@click.pass_context
def show(context: click.Context, /, words: tuple[str, ...]) -> None:
    """Show how it was called."""
    click.echo(f"{len(words)} {command_line(context)}")


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(program, list(arguments))


def test_a_users_mistake_is_one_message() -> None:
    """A LayerTracerError becomes its message on standard error and exit code 1."""
    result = _call("mistake")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no run at x. Give another path.\n"


def test_a_bug_asks_to_be_reported() -> None:
    """An unexpected exception becomes one message that asks for a report, without a traceback."""
    result = _call("bug")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Unexpected KeyError: 'first line")
    assert "Please report it with what the same command prints with --debug." in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("--debug", "bug"), ("bug", "--debug")])
def test_debug_shows_the_traceback(arguments: tuple[str, ...]) -> None:
    """With --debug, before or after the command, the traceback is shown."""
    result = _call(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert 'raise KeyError("first line' in result.stderr


def test_debug_shows_the_traceback_of_a_mistake() -> None:
    """With --debug a user's mistake has its traceback before its message."""
    result = _call("--debug", "mistake")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("Error: There is no run at x. Give another path.\n")


def test_the_disk_is_a_users_matter() -> None:
    """What the operating system refuses is a message with the file, and exit code 1."""
    result = _call("disk")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: x.html: No space left on device. Check the path")


def test_interruption_has_its_own_exit_code() -> None:
    """Ctrl-C ends with 130 and says what became of the work."""
    result = _call("stop")
    assert (result.exit_code, result.stderr) == (130, "Interrupted: nothing was finished, and nothing was saved.\n")
    assert _call("stop", "--explain", "Half is saved.").stderr == "Half is saved.\n"


def test_a_command_that_makes_no_sense_is_usage() -> None:
    """An unknown command or option ends with 2."""
    assert _call("nonsense").exit_code == 2
    assert _call("mistake", "--nonsense").exit_code == 2


def test_the_command_line_is_remembered() -> None:
    """A command knows how it was called, for the provenance."""
    assert _call("show", "a", "b c").stdout == "2 ('layertracer', 'show', 'a', 'b c')\n"
