"""Progress in Python: a bar, nothing, or a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from layertracer.api._taken import refused

if TYPE_CHECKING:
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Progress = Any

Advance: TypeAlias = Callable[[Progress], None]


@contextmanager
def telling_progress(progress: object, what: str) -> Iterator[Advance | None]:
    """The function to call as a trace goes on; None where nobody wants to know.

    Args:
        progress: True for a bar (in a terminal or a notebook), False or None for nothing, or a function.
        what: What goes on, in words.

    Raises:
        UsageError: If it is something else.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _showing_bar(what) as advance:
            yield advance
    elif callable(progress) and not isinstance(progress, type):
        yield progress
    else:
        raise refused("progress", progress, "Give True for a bar, False for none, or a function of one argument.")


@contextmanager
def _showing_bar(what: str) -> Iterator[Advance]:
    from tqdm.auto import tqdm

    with tqdm(desc=what, unit="prompt") as bar:

        def advance(progress: Progress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        yield advance
