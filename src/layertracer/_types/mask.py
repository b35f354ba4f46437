"""Ablation of dimensions of a site: which ones, how many at a time, and what they become."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import UsageError
from layertracer._types.given import Number, Whole, checked_masks, checked_number, checked_whole
from layertracer._types.perturbations import check_choice, check_draws, check_positions
from layertracer._types.sites import DEFAULT_SITE, SITES, Fill, Positions, Site

Scheme = Literal["partition", "random"]

_OF_PROMPT = 5
"""Purpose of the generator of a prompt's own masks; 1 to 4 are those of fills, noise and memories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Dimensions of a site replaced by zero, the mean, or values from elsewhere.

    Laws: a partition masks each dimension exactly once in each group of `1 / fraction` draws;
    a mask that keeps everything changes nothing; equal seeds give equal masks.

    At "state" it is not dimensions of the stream that are masked but entries of the layer's memory, slot by slot: a
    slot is one position of its keys or of its values, or a whole convolution window or recurrent state.

    Attributes:
        fraction: Share of the dimensions masked in one draw, in (0, 1].
        site: "mixer_output", "block_output", "mlp_output" or "state". Where nobody asks for one and a model has no
            mixer that can be told apart, the trace takes "block_output" and says so.
        draws: Number of repetitions.
        scheme: "partition" (the draws of a group split the dimensions into `1 / fraction` disjoint
            sets) or "random" (each draw picks its own).
        fill: "zero"; "mean" (over all prompts and positions of the trace); "resample" (the values
            that the dimensions have at another position of the trace). At "state" only "zero".
        positions: "all", or "last" (only the last position of the prompt).
        seed: Seed of the masks.
        keep: Given masks, 0 or 1, shape [layer, draw, width]; see `Mask.explicit`.

    Raises:
        UsageError: If `fraction`, `draws` or `keep` is out of range.
        UnknownNameError: If a name is not one of those listed.

    Example:
        >>> Mask(fraction=0.25, draws=4).keep_array(n_layers=2, width=8).sum(axis=1).tolist()
        [[3, 3, 3, 3, 3, 3, 3, 3], [3, 3, 3, 3, 3, 3, 3, 3]]

    Source:
        arXiv 2604.20556 masks at random; the partition is LayerTracer's own.
    """

    fraction: Number = 0.2
    site: Site = DEFAULT_SITE
    draws: Whole = 5
    scheme: Scheme = "partition"
    fill: Fill = "zero"
    positions: Positions = "all"
    seed: Whole = 0
    keep: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    kind: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_choice("site", self.site, tuple(SITES))
        check_choice("scheme", self.scheme, ("partition", "random"))
        check_choice("fill", self.fill, ("zero", "mean", "resample"))
        check_positions(self.site, self.positions)
        object.__setattr__(self, "draws", checked_whole("draws", self.draws))
        object.__setattr__(self, "seed", checked_whole("seed", self.seed))
        object.__setattr__(
            self, "fraction", checked_number("fraction", self.fraction, hint="fraction=0.2 masks a fifth.")
        )
        check_draws(self.draws, self.seed)
        if self.keep is not None:
            object.__setattr__(self, "keep", checked_masks(self.keep))
            if self.keep.shape[1] != self.draws:
                raise UsageError(
                    f"keep has {self.keep.shape[1]} draws and draws={self.draws} was given. Use Mask.explicit(keep)."
                )
        _check_fill(self.site, self.fill)
        if not 0.0 < self.fraction <= 1.0:
            raise UsageError(
                f"fraction must be in (0, 1], got {self.fraction}. It is the share of the dimensions "
                "masked in one draw: fraction=0.2 masks a fifth."
            )
        n_sets = 1 / self.fraction
        if self.keep is None and self.scheme == "partition" and abs(n_sets - round(n_sets)) > 1e-3:
            raise UsageError(
                f"scheme='partition' splits the dimensions into 1/fraction equal sets, got fraction={self.fraction}, "
                f"which gives {1 / self.fraction:.4g} sets. Use a fraction such as 0.5, 0.25, 0.2 or 0.1, or "
                "scheme='random'."
            )

    @classmethod
    def explicit(
        cls, keep: Any, site: Site = "block_output", *, fill: Fill = "zero", positions: Positions = "all"
    ) -> Mask:
        """A mask given dimension by dimension, without randomness.

        Args:
            keep: 1 keeps and 0 masks, shape [layer, draw, width].
            site: Where inside the layer.
            fill: What masked dimensions become.
            positions: Which positions are masked.

        Raises:
            UsageError: If `keep` has not three axes, or holds anything but 0 and 1.
        """
        kept = checked_masks(keep)
        fraction = float(1.0 - kept.mean()) or 1.0
        return cls(
            fraction=fraction,
            site=site,
            draws=kept.shape[1],
            scheme="random",
            fill=fill,
            positions=positions,
            keep=kept,
        )

    def __eq__(self, other: object) -> bool:
        """Whether both mask the same dimensions in the same way."""
        return self.to_dict() == other.to_dict() if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        """Hash of what is compared."""
        return hash(repr(self.to_dict()))

    @property
    def n_draws(self) -> int:
        """Number of repetitions."""
        return self.draws

    def keep_array(self, *, n_layers: int, width: int) -> NDArray[np.bool_]:
        """Which dimensions stay, shape [layer, draw, width].

        Raises:
            UsageError: If an explicit mask has another shape, or a draw would mask no dimension.
        """
        if self.keep is not None:
            expected = (n_layers, self.draws, width)
            if self.keep.shape != expected:
                raise UsageError(
                    f"The explicit mask has shape {list(self.keep.shape)}, this model needs {list(expected)} "
                    "([layer, draw, width]). Take n_layers and d_model from model.anatomy."
                )
            return self.keep
        layers = [self._keep_layer(layer, width) for layer in range(n_layers)]
        return np.stack(layers)

    def keep_of_prompt(self, prompt: int, *, layer: int, width: int) -> NDArray[np.bool_]:
        """Which dimensions of a layer stay where every prompt has masks of its own, shape [draw, width].

        Args:
            prompt: The prompt's number in the task: its masks depend on nothing else but the seed and the layer.
            layer: Index of the layer.
            width: Dimensions at the site.
        """
        if self.keep is not None:
            return np.asarray(self.keep[layer])
        return self._keep_layer(layer, width, of_prompt=(prompt, _OF_PROMPT))

    def _keep_layer(self, layer: int, width: int, *, of_prompt: tuple[int, ...] = ()) -> NDArray[np.bool_]:
        """Masks of one layer; each layer has a stream of its own, so that they do not depend on `n_layers`."""
        generator = np.random.default_rng([self.seed, layer, *of_prompt])
        keep = np.ones((self.draws, width), dtype=bool)
        permutations: list[NDArray[np.intp]] = []
        for draw in range(self.draws):
            number, stretch = self.masked_stretch(draw, width)
            if number == len(permutations):
                permutations.append(generator.permutation(width))
            keep[draw, permutations[number][stretch]] = False
        return keep

    def masked_stretch(self, draw: int, width: int) -> tuple[int, slice]:
        """What a draw masks of `width` entries: the number of a permutation of them, and a stretch of it.

        With scheme="random" every draw has a permutation of its own; with scheme="partition" the draws of a group share
        one, and their stretches split it.

        Example:
            >>> [Mask(fraction=0.5, draws=3).masked_stretch(draw, 5) for draw in range(3)]
            [(0, slice(0, 3, None)), (0, slice(3, 5, None)), (1, slice(0, 3, None))]

        Raises:
            UsageError: If it would mask nothing: such a draw would count as a divergence of 0.
        """
        n_parts = max(1, round(1 / self.fraction))
        n_masked = round(self.fraction * width) if self.scheme == "random" else width // n_parts
        if n_masked < 1:
            least = f"fraction={1 / width:.2g}" if self.scheme == "random" else f"fraction=1/{width}"
            split = f": its {n_parts} parts need at least {n_parts} of them" if self.scheme == "partition" else ""
            raise UsageError(
                f"fraction={self.fraction} of {width} dimensions masks none in some draws{split}. Use at least {least}."
            )
        if self.scheme == "random":
            return draw, slice(0, n_masked)
        number, part = divmod(draw, n_parts)
        size, n_larger = divmod(width, n_parts)  # the first parts take what is left over, one each
        start = part * size + min(part, n_larger)
        return number, slice(start, start + size + (part < n_larger))

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values; an explicit mask by its shape and hash."""
        spec: dict[str, Any] = {"kind": self.kind, "site": str(self.site), "draws": self.draws, "fill": self.fill}
        spec["positions"] = self.positions
        if self.keep is not None:
            digest = hashlib.sha256(np.packbits(self.keep).tobytes()).hexdigest()
            return spec | {"scheme": "explicit", "shape": list(self.keep.shape), "sha256": digest}
        return spec | {"scheme": self.scheme, "fraction": self.fraction, "seed": self.seed}


def _check_fill(site: str, fill: str) -> None:
    facts = SITES[site]
    if fill not in facts.fills:
        raise UsageError(f"fill={fill!r} has no meaning at site={site!r}: {facts.why_not_filled}")
