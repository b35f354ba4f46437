"""Gaussian noise added to a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from layertracer._errors import UsageError
from layertracer._types.given import Number, Whole, checked_number, checked_whole
from layertracer._types.perturbations import check_choice, check_draws, check_positions
from layertracer._types.sites import DEFAULT_SITE, SITES, Positions, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Gaussian noise added to a site.

    Attributes:
        scale: Standard deviation relative to the root mean square of the stream, per position: of what
            leaves the layer at "block_output", of what enters it at "mixer_output" and "mlp_output"; at "state", of
            the slot.
        site: "mixer_output", "block_output", "mlp_output" or "state". Where nobody asks for one and a model has no
            mixer that can be told apart, the trace takes "block_output" and says so.
        draws: Number of repetitions.
        positions: "all", or "last" (only the last position of the prompt).
        seed: Seed of the noise.

    Raises:
        UsageError: If `scale` is negative or not finite, or `draws` is below 1.
    """

    scale: Number = 0.1
    site: Site = DEFAULT_SITE
    draws: Whole = 5
    positions: Positions = "all"
    seed: Whole = 0
    kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_choice("site", self.site, tuple(SITES))
        check_positions(self.site, self.positions)
        object.__setattr__(self, "draws", checked_whole("draws", self.draws))
        object.__setattr__(self, "seed", checked_whole("seed", self.seed))
        object.__setattr__(self, "scale", checked_number("scale", self.scale, hint="scale=0.1 is a tenth of the RMS."))
        check_draws(self.draws, self.seed)
        if not (np.isfinite(self.scale) and self.scale >= 0):
            raise UsageError(
                f"scale must be a finite number of at least 0, got {self.scale}. It is relative to the "
                "stream's root mean square: 0.1 is a tenth."
            )

    @property
    def n_draws(self) -> int:
        """Number of repetitions."""
        return self.draws

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {
            "kind": self.kind,
            "scale": self.scale,
            "site": str(self.site),
            "draws": self.draws,
            "positions": self.positions,
            "seed": self.seed,
        }
