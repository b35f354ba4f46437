"""What stands in for a layer's mixer when a hybrid is designed: a short window, nothing, or its mean. No tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from layertracer._errors import UnknownNameError, UsageError
from layertracer._types.given import Whole, checked_whole, shown


@runtime_checkable
class Substitute(Protocol):
    """What stands in a mixer's place: `Window`, `NoMixer` or `MeanMixer`."""

    @property
    def kind(self) -> str:
        """Its name."""

    @property
    def n_seen(self) -> int:
        """How many tokens a position sees at most by a window; 0 where no window decides that."""

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values, with its "kind"."""

    def describe(self) -> str:
        """What it is, for people."""


@dataclass(frozen=True, slots=True)
class Window:
    """A mixer that sees a few tokens alone: the last ones, and the first of the text.

    Whatever the mixer does not see by itself (a window or chunks of its own) it does not see with this either.

    Attributes:
        size: How many of the last tokens a position sees, itself included.
        sinks: How many of the text's first tokens every position sees besides.

    Raises:
        UsageError: If they are no whole numbers, `size` is below 1, or `sinks` below 0.

    Example:
        >>> Window(64, sinks=4).describe()
        'a window of 64 tokens and the first 4'
        >>> Window(64, sinks=4).n_seen
        68
    """

    size: Whole
    _: KW_ONLY
    sinks: Whole = 0
    kind: ClassVar[str] = "window"

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        hint = "Window(64) sees the last 64 tokens, Window(64, sinks=4) the first 4 of the text as well."
        object.__setattr__(self, "size", checked_whole("size", self.size, hint=hint))
        object.__setattr__(self, "sinks", checked_whole("sinks", self.sinks, hint=hint))
        if self.size < 1:
            raise UsageError(f"size must be at least 1, got {self.size}: a position sees itself. {hint}")
        if self.sinks < 0:
            raise UsageError(f"sinks must be at least 0, got {self.sinks}. {hint}")

    @property
    def n_seen(self) -> int:
        """How many tokens a position sees at most."""
        return self.size + self.sinks

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {"kind": self.kind, "size": self.size, "sinks": self.sinks}

    def describe(self) -> str:
        """What it is, for people."""
        tokens = "1 token" if self.size == 1 else f"{self.size} tokens"
        return f"a window of {tokens}" + (f" and the first {self.sinks}" if self.sinks else "")


@dataclass(frozen=True, slots=True)
class NoMixer:
    """A mixer that adds nothing to the stream."""

    kind: ClassVar[str] = "none"

    @property
    def n_seen(self) -> int:
        """No window decides what is seen."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {"kind": self.kind}

    def describe(self) -> str:
        """What it is, for people."""
        return "no mixer"


@dataclass(frozen=True, slots=True)
class MeanMixer:
    """A mixer that adds the same everywhere: the mean of what it adds, over rows and positions of some texts."""

    kind: ClassVar[str] = "mean"

    @property
    def n_seen(self) -> int:
        """No window decides what is seen."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {"kind": self.kind}

    def describe(self) -> str:
        """What it is, for people."""
        return "the mixer's mean"


_SUBSTITUTES: Mapping[str, Any] = {one.kind: one for one in (Window, NoMixer, MeanMixer)}


def substitute_from_dict(stored: object) -> Substitute:
    """The substitute of which `to_dict` was stored.

    Raises:
        UsageError: If it is no such dictionary, or the numbers in it are out of range.
        UnknownNameError: If its kind is none.

    Example:
        >>> substitute_from_dict({"kind": "window", "size": 8, "sinks": 0})
        Window(size=8, sinks=0)
    """
    if not isinstance(stored, Mapping) or not isinstance(stored.get("kind"), str):
        raise UsageError(
            f"A substitute must be a dictionary with its kind, got {shown(stored)}. Expected what to_dict() of a "
            "Window, a NoMixer or a MeanMixer gives."
        )
    kind = stored["kind"]
    if kind not in _SUBSTITUTES:
        raise UnknownNameError.among("substitute", kind, tuple(_SUBSTITUTES))
    settings = {name: value for name, value in stored.items() if name != "kind"}
    wanted = {"size", "sinks"} if kind == Window.kind else set()
    if set(settings) != wanted:
        raise UsageError(
            f"The substitute {kind!r} is stored with {_listed(settings)}; expected was {_listed(sorted(wanted))}. Give "
            "what its to_dict() gives."
        )
    made: Substitute = _SUBSTITUTES[kind](**settings)
    return made


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names)) or "nothing besides"


def checked_substitute(given: object) -> Substitute:
    """A substitute as users give it.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(given, Window | NoMixer | MeanMixer):
        return given
    raise UsageError(
        f"substitute must be a Window, a NoMixer or a MeanMixer, got {shown(given)}. For example "
        "substitute=Window(64, sinks=4)."
    )
