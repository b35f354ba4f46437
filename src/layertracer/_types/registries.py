"""Names under which methods are known, and how one more is made known for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from layertracer._errors import UsageError

Registered = TypeVar("Registered")


class Registration(Generic[Registered]):
    """Something made known under a name: for good, until it is undone, or for the length of a block.

    Args:
        registry: Where it is known from then on.
        name: Its name.
        value: What it is.

    Raises:
        UsageError: If something else is known under that name.

    Example:
        >>> colours = {}
        >>> with Registration(colours, "red", 1):
        ...     print(colours)
        {'red': 1}
        >>> colours
        {}
    """

    def __init__(self, registry: dict[str, Registered], name: str, value: Registered) -> None:
        if name in registry:
            raise UsageError(
                f"{name!r} is registered already. Give another name, or undo the other registration first."
            )
        self._registry, self._name = registry, name
        registry[name] = value

    def undo(self) -> None:
        """Forget it again; once more does nothing."""
        self._registry.pop(self._name, None)

    def __enter__(self) -> Registration[Registered]:
        """Itself; undone at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo it."""
        self.undo()


@dataclass(frozen=True, slots=True)
class Registrations:
    """Several registrations that are undone together.

    Attributes:
        each: The registrations.
    """

    each: Sequence[Registration[Any]]

    def undo(self) -> None:
        """Forget them all; once more does nothing."""
        for registration in self.each:
            registration.undo()

    def __enter__(self) -> Registrations:
        """Itself; undone at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Undo them."""
        self.undo()
