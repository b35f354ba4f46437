"""Progress in Python: a bar, nothing, or a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from layertracer.api._taken import refused

if TYPE_CHECKING:
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Progress = Any

Advance: TypeAlias = Callable[[Progress], None]


@contextmanager
def telling_progress(progress: object, what: str, *, unit: str = "prompt") -> Iterator[Advance | None]:
    """The function to call as a trace goes on; None where nobody wants to know.

    Args:
        progress: True for a bar (in a terminal or a notebook), False or None for nothing, or a function.
        what: What goes on, in words.
        unit: What is counted.

    Raises:
        UsageError: If it is something else.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _showing_bar(what, unit) as advance:
            yield advance
    elif callable(progress) and not isinstance(progress, type):
        yield progress
    else:
        raise refused("progress", progress, "Give True for a bar, False for none, or a function of one argument.")


@contextmanager
def _showing_bar(what: str, unit: str) -> Iterator[Advance]:
    """A bar, for as long as it can be shown: a terminal that is gone must not cost the trace."""
    bar = _Bar(what, unit)
    try:
        yield bar.advance
    finally:
        bar.close()


class _Bar:
    """A bar that disappears for good when it cannot be drawn."""

    def __init__(self, what: str, unit: str) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = None
        with suppress(Exception):
            self._bar = tqdm(desc=what, unit=unit)

    def advance(self, progress: Progress) -> None:
        """Draw how far it is."""
        if self._bar is None:
            return
        try:
            self._bar.total = progress.total
            self._bar.update(progress.done - self._bar.n)
        except Exception:  # noqa: BLE001 - whatever a terminal, a notebook or tqdm raises
            self._bar.disable, self._bar = True, None

    def close(self) -> None:
        """Leave the last state of it standing."""
        if self._bar is not None:
            with suppress(Exception):
                self._bar.close()
