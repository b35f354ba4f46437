"""Where errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from layertracer._errors import LayerTracerError
from layertracer.cli._console import say_aside
from layertracer.cli._signals import interrupted_exit_code, stopping_on_signals
from layertracer.cli._streams import forgiving_stderr, give_up_stdout

EXIT_USER_ERROR = 1

_OF_STREAMS = {errno.EPIPE, errno.EIO, errno.ENOSPC}
"""What writing to a standard stream ends with that leads nowhere: no reader, no terminal, no room."""
_ARGUMENTS = "layertracer.arguments"
_DEBUG = "layertracer.debug"
_INTERRUPTED = "layertracer.interrupted"
_KEPT = "layertracer.kept"

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


class CommandLine(click.Group):
    """A group of commands that ends in a message and an exit code, and never in a traceback unless asked for one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they were given, for the provenance."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which one needs them."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn what it raises into a message and an exit code."""
        with forgiving_stderr(), stopping_on_signals(ctx.meta):
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LayerTracerError as error:
            _show_traceback(ctx)
            say_aside(f"Error: {error}")
        except KeyboardInterrupt:
            _show_traceback(ctx)
            say_aside(ctx.meta.get(_INTERRUPTED, "Interrupted: nothing was finished, and nothing was saved."))
            raise click.exceptions.Exit(interrupted_exit_code(ctx.meta)) from None
        except OSError as error:
            is_of_stdout = error.filename is None and error.errno in _OF_STREAMS
            if is_of_stdout:
                give_up_stdout()
            if is_of_stdout and error.errno != errno.ENOSPC:
                _say_kept(ctx)
                raise click.exceptions.Exit(EXIT_USER_ERROR) from None  # whoever read it has seen enough, or is gone
            _show_traceback(ctx)
            say_aside(f"Error: {_describe_os_error(error, is_of_stdout=is_of_stdout)}")
            _say_kept(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary: a user never meets a traceback unasked
            _refuse_to_stop(error)
            if not _show_traceback(ctx):
                say_aside(_describe_unexpected(error))
        raise click.exceptions.Exit(EXIT_USER_ERROR)


def debug_option(command: AnyCommand) -> AnyCommand:
    """Add `--debug` to a command."""
    option = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_debug,
        help="Show the traceback of an error.",
    )
    return option(command)


def _remember_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        context.meta[_DEBUG] = True


def command_line(context: click.Context) -> tuple[str, ...]:
    """The command line as it was given, program first."""
    arguments: tuple[str, ...] = context.meta.get(_ARGUMENTS, ())
    return ("layertracer", *arguments)


def explain_interruption(context: click.Context, message: str) -> None:
    """Say this when the command ends by Ctrl-C."""
    context.meta[_INTERRUPTED] = message


def explain_kept(context: click.Context, message: str) -> None:
    """Say this when the command ends because its output or a file could not be written."""
    context.meta[_KEPT] = message


def _say_kept(context: click.Context) -> None:
    if _KEPT in context.meta:
        say_aside(context.meta[_KEPT])


def _show_traceback(context: click.Context) -> bool:
    """Show the traceback if one was asked for."""
    is_asked = bool(context.meta.get(_DEBUG))
    if is_asked:
        say_aside(traceback.format_exc())
    return is_asked


def _refuse_to_stop(error: BaseException) -> None:
    """Raise what ends a program by its own choice; a panic of a library is an error like any other."""
    from layertracer._types import is_panic

    if not isinstance(error, Exception) and not is_panic(error):
        raise error


def _describe_unexpected(error: BaseException) -> str:
    """An exception that nobody foresaw, and whose code raised it."""
    from layertracer._types import find_origin

    origin = find_origin(error)
    whose = "This is a mistake in LayerTracer."
    if not origin.is_ours:
        whose = (
            f"It was raised in {origin.where}, by code that LayerTracer called. If that works by itself, it is a "
            "mistake in LayerTracer."
        )
    return (
        f"Unexpected {type(error).__name__}: {_first_line(error)}\n{whose} Please report it with what the same command "
        "prints with --debug."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _describe_os_error(error: OSError, *, is_of_stdout: bool) -> str:
    if is_of_stdout:
        return f"Standard output: {error.strerror or error}. Check where it leads to, and the room there."
    where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, str | os.PathLike) else ""
    return f"{where}{error.strerror or error}. Check the path, its permissions, and the room on the disk."
