"""Failures of models' and callers' own code: what is said of an exception that nobody foresaw."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from layertracer._errors import LayerTracerError, ModelError, OutOfMemoryError, UsageError, printable_cause
from layertracer._types import find_origin
from layertracer.models import is_out_of_memory

Said = TypeVar("Said")


class CallbackRaised(BaseException):
    """What a caller's own function raised, on its way back to the caller.

    No `Exception`: what is done about errors of models, such as trying a smaller batch or another way, is not for it.

    Attributes:
        raised: The caller's exception.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(str(raised))
        self.raised = raised


def describe_error(error: BaseException) -> dict[str, str]:
    """What a record says of the exception that ended its trace: `type`, `message`, and whose it is."""
    if isinstance(error, CallbackRaised):
        message = f"raised by the caller's own function (progress or on_plan): {error.raised}"
        return {"type": type(error.raised).__name__, "message": message}
    return {"type": type(error).__name__, "message": str(error)}


def shielded(callback: Callable[[Said], None] | None) -> Callable[[Said], None] | None:
    """A caller's function whose exceptions come out as `CallbackRaised`; Ctrl-C stays what it is."""
    if callback is None:
        return None

    def call(said: Said) -> None:
        try:
            callback(said)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a pytest.exit or a cancellation is the caller's, too
            raise CallbackRaised(error) from None

    return call


def is_of_callers_making(error: BaseException) -> bool:
    """Whether an exception is the caller's doing, though it came up while the model's code ran.

    A warning that the caller's filters turn into an error, and what a caller's logging handler raises, say nothing of
    the model: they come out as they are, and nothing is tried another way because of them.
    """
    if isinstance(error, Warning):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is logging.Logger.callHandlers.__code__ for frame, _ in frames)


def is_built_in(code: object) -> bool:
    """Whether a function, or the class of an object, is LayerTracer's own."""
    module = getattr(code, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == "layertracer"


@contextmanager
def telling_whose(what: str, when: str, *, code: object = None, not_theirs: Sequence[Exception] = ()) -> Iterator[None]:
    """What a user's own code, registered or given, raises in the block is told as theirs, not as the model's or ours.

    Memory that runs out, warnings made errors and LayerTracer's own errors stay what they are.

    Args:
        what: What their code is, as the beginning of a sentence, e.g. "The lens 'own'".
        when: Where it was called, e.g. "at layer 3".
        code: Whose code it is; where that is LayerTracer's own, nothing is told.
        not_theirs: What came up in something else that their code called.

    Raises:
        UsageError: If it raised something.
    """
    try:
        yield
    except LayerTracerError:
        raise
    except Exception as error:
        is_others = any(error is one for one in not_theirs) or is_built_in(code)
        if is_others or is_out_of_memory(error) or is_of_callers_making(error):
            raise
        raise UsageError(
            f"{what} raised {first_line(error)} {when} ({find_origin(error).where}). That is code of its own, neither "
            "the model's nor LayerTracer's: mend it there, or leave it out."
        ) from printable_cause(error)


def first_line(error: Exception) -> str:
    """An exception in one line: its kind, and the first line of what it says, without the full stop of a sentence."""
    said = str(error).strip().partition(chr(10))[0].rstrip()
    return f"{type(error).__name__}: {said if said.endswith('..') else said.removesuffix('.')}"


def explain_failure(error: Exception, *, name: str, doing: str, kept: str = "") -> LayerTracerError:
    """What a user is told of an exception that nobody foresaw: who raised it, where, and what to do.

    Args:
        error: The exception.
        name: The model's name.
        doing: What was being done, e.g. "while its layers were read".
        kept: What to say of what was done before; nothing where nothing was.
    """
    what = first_line(error)
    end = f" {kept}" if kept else ""
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"Memory ran out on {name!r} {doing} ({what}). Free memory, or use a smaller dtype, shorter prompts or "
            f"another device.{end}"
        )
    origin = find_origin(error)
    if origin.is_ours:
        return LayerTracerError(
            f"LayerTracer failed on {name!r} {doing}: {what} ({origin.where}). This is a fault of LayerTracer, not of "
            f"the model. Please report it with its traceback.{end}"
        )
    return ModelError(
        f"{name!r} raised an error of its own {doing}: {what} ({origin.where}). Run the model on the same tokens by "
        f"itself: if it fails there too, the cause is in its own code; if not, please report it.{end}"
    )


@contextmanager
def explaining_failures(name: str, doing: str) -> Iterator[None]:
    """What nobody foresaw comes out of the block as `explain_failure` puts it; other errors as they are.

    Raises:
        OutOfMemoryError: If memory ran out.
        ModelError: If the model raised something.
        LayerTracerError: If something else did.
    """
    try:
        yield
    except LayerTracerError:
        raise
    except Exception as error:
        if is_of_callers_making(error):
            raise
        raise explain_failure(error, name=name, doing=doing) from printable_cause(error)
