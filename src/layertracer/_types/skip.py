"""The layer bypassed."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from layertracer._types.perturbations import check_choice
from layertracer._types.sites import Positions, Site


@dataclass(frozen=True, slots=True)
class Skip:
    """The layer bypassed: what enters it leaves it.

    Attributes:
        positions: "all", or "last" (only the last position of the prompt skips the layer).
    """

    _: KW_ONLY
    positions: Positions = "all"
    kind: ClassVar[str] = "skip"

    def __post_init__(self) -> None:
        """Refuse unknown positions."""
        check_choice("positions", self.positions, ("all", "last"))

    @property
    def site(self) -> Site:
        """Always the whole block."""
        return "block_output"

    @property
    def n_draws(self) -> int:
        """Always one: there is nothing random."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {"kind": self.kind, "site": self.site, "draws": 1, "positions": self.positions}
