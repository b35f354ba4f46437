"""Reasons why something is not measured: a number that cannot be proved is not given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from layertracer._errors import LayerTracerError, OutOfMemoryError
from layertracer.models import is_out_of_memory
from layertracer.tracing._failures import first_line, is_of_callers_making


class NotMeasured(LayerTracerError):  # noqa: N818 - not an error: it says why there is no number
    """Something is not measured; the message says why, as the end of "not measured: …"."""


@contextmanager
def telling_why_not(what: str) -> Iterator[None]:
    """What goes wrong in the block is the reason why something is not measured.

    Memory that runs out comes out as it is, since smaller batches may do; so does what callers have made.

    Args:
        what: What cannot be done, as the beginning of a sentence, e.g. "its code cannot be differentiated".

    Raises:
        NotMeasured: If anything else goes wrong.
    """
    try:
        yield
    except (NotMeasured, OutOfMemoryError):
        raise
    except LayerTracerError as error:
        raise NotMeasured(f"{what}: {error}") from error
    except Exception as error:
        if is_out_of_memory(error) or is_of_callers_making(error):
            raise
        raise NotMeasured(f"{what} ({first_line(error)})") from error
