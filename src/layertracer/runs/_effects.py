"""What one perturbation does to the output: its row measures, and the layers that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import (
    KNOWN_ROWS,
    LossLayer,
    MeasureInfo,
    VulnerableLayer,
    read_only,
    refuse_reserved,
)
from layertracer.measures import Sampling, find_largest_loss, find_missing, find_vulnerable_layer
from layertracer.runs._context import RecordContext, require_context, require_rows, sampled_draws

ROW_AXES = ("prompt", "draw", "layer")
DOMINANT_AXES: Mapping[str, tuple[type[np.generic], tuple[str, ...]]] = MappingProxyType(
    {
        "dominant_dimension": (np.int32, ("layer",)),
        "dominant_ratio": (np.float32, ("layer",)),
        "dominant_hit": (np.bool_, ("draw", "layer")),
    }
)


def effect_keys(perturbations: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the effects of perturbations are called: their sites, numbered from the second one at the same site on.

    Example:
        >>> effect_keys([{"site": "mlp_output"}, {"site": "state"}, {"site": "mlp_output"}])
        ('mlp_output', 'state', 'mlp_output#2')
    """
    sites = [str(one.get("site", "block_output")) for one in perturbations]
    numbers = [sites[: index + 1].count(site) for index, site in enumerate(sites)]
    return tuple(site if number == 1 else f"{site}#{number}" for site, number in zip(sites, numbers, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectRecord:
    """What one perturbation does to the output, layer by layer.

    Attributes:
        key: Its site; "site#2", "site#3" where several perturbations of a trace share one.
        perturbation: `to_dict()` of the perturbation.
        rows: What was measured of the perturbed output, by name, float32 [prompt, draw, layer]: always "js_bits", and
            "target_log_prob" where it was measured; NaN at layers without the site.
        infos: What each of these numbers is; what "js_bits" and "target_log_prob" are is known.
        dominant_dimension: The dimension of the largest root mean square at the site, int32 [layer].
        dominant_ratio: That root mean square relative to the median dimension's, float32 [layer].
        dominant_hit: Whether the draw masks that dimension, bool [draw, layer].
        context: What it must know of its trace; None outside of one.

    Raises:
        UsageError: If "js_bits" is missing, shapes do not fit, it is not said what a number is, or it has the name of
            something else.
    """

    key: str
    perturbation: Mapping[str, Any]
    rows: Mapping[str, np.ndarray]
    dominant_dimension: np.ndarray
    dominant_ratio: np.ndarray
    dominant_hit: np.ndarray
    infos: Mapping[str, MeasureInfo] = field(default_factory=dict)
    context: RecordContext | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Copy and freeze the arrays, and refuse those that do not fit together."""
        rows = {name: read_only(values, np.float32) for name, values in self.rows.items()}
        if "js_bits" not in rows:
            raise UsageError(
                f"The effect {self.key!r} has no 'js_bits' among its rows ({', '.join(rows) or 'none'}). Every effect "
                "has the JS divergence; give it as rows={'js_bits': ...}, [prompt, draw, layer]."
            )
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "infos", {name: self._info_of(name) for name in rows})
        for name, (dtype, _) in DOMINANT_AXES.items():
            object.__setattr__(self, name, read_only(getattr(self, name), dtype))
        self._check_shapes()

    def _info_of(self, name: str) -> MeasureInfo:
        info = KNOWN_ROWS.get(name, self.infos.get(name))
        if info is None or info.name != name:
            raise UsageError(
                f"The effect {self.key!r} has rows named {name!r}, and infos says nothing of that name. Give a "
                "MeasureInfo with the name, unit and meaning of each row measure."
            )
        if name not in KNOWN_ROWS:
            refuse_reserved("row measure", name)
        return info

    def _check_shapes(self) -> None:
        shape = self.js_bits.shape
        if len(shape) != len(ROW_AXES):
            raise UsageError(
                f"js_bits of the effect {self.key!r} has shape {list(shape)}, and needs [{', '.join(ROW_AXES)}]."
            )
        sizes = dict(zip(ROW_AXES, shape, strict=True))
        arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
            name: (self.rows[name], ROW_AXES) for name in self.rows
        }
        arrays.update({name: (getattr(self, name), axes) for name, (_, axes) in DOMINANT_AXES.items()})
        for name, (array, axes) in arrays.items():
            expected = tuple(sizes[axis] for axis in axes)
            if array.shape != expected:
                raise UsageError(
                    f"{name} of the effect {self.key!r} has shape {list(array.shape)}, and needs {list(expected)} "
                    f"([{', '.join(axes)}]), as its js_bits has."
                )

    @property
    def site(self) -> str:
        """Where inside the layer is perturbed."""
        return str(self.perturbation.get("site", "block_output"))

    @property
    def n_draws(self) -> int:
        """Number of repetitions of the perturbation."""
        return int(self.js_bits.shape[1])

    @property
    def js_bits(self) -> np.ndarray:
        """JS divergence between the clean and the perturbed output, bits, [prompt, draw, layer]."""
        return self.rows["js_bits"]

    @property
    def target_log_prob(self) -> np.ndarray | None:
        """Log-probability of the target in the perturbed output, nats, [prompt, draw, layer]; None if not measured."""
        return self.rows.get("target_log_prob")

    @property
    def target_log_prob_loss(self) -> np.ndarray | None:
        """What the target's log-probability loses, clean minus perturbed, nats, [prompt, draw, layer].

        NaN for prompts with several answers, of which one is followed when perturbed; None where it was not measured.

        Raises:
            UsageError: If the effect belongs to no trace.
        """
        if self.target_log_prob is None:
            return None
        clean = require_context(self.context, "The loss of the target").clean_log_prob
        return np.asarray(clean[:, None, None] - self.target_log_prob)

    @property
    def layers_without_site(self) -> tuple[int, ...]:
        """The layers in which there is nothing to perturb at the site; empty where no prompt was finished."""
        return tuple(np.flatnonzero(find_missing(self.js_bits)).tolist())

    @property
    def sampling(self) -> Sampling:
        """What of this effect was sampled: prompts, or the sets of demonstrations that they share, and draws.

        Raises:
            UsageError: If the effect belongs to no trace.
        """
        context = require_context(self.context, "What was sampled")
        return Sampling(units=context.units, **sampled_draws(self.perturbation, by_prompt=context.by_prompt))

    @cached_property
    def vulnerable_layer(self) -> VulnerableLayer:
        """Where this perturbation changes the output most.

        Raises:
            UsageError: If no prompt was finished, or the effect belongs to no trace.
        """
        context = require_context(self.context, "The vulnerable layer")
        require_rows(context, "vulnerable layer")
        return find_vulnerable_layer(self.js_bits, seed=context.seed, sampling=self.sampling)

    @cached_property
    def largest_loss_layer(self) -> LossLayer | None:
        """Where this perturbation costs the target most of its log-probability, over prompts with one answer.

        None where it was not measured, or no prompt has one answer.

        Raises:
            UsageError: If no prompt was finished, or the effect belongs to no trace.
        """
        context = require_context(self.context, "The layer of the largest loss")
        require_rows(context, "layer of the largest loss")
        loss = self.target_log_prob_loss
        if loss is None:
            return None
        counts = ~np.isnan(context.clean_log_prob)
        if not counts.any():
            return None
        return find_largest_loss(loss[counts], seed=context.seed, sampling=self.loss_sampling)

    @property
    def loss_sampling(self) -> Sampling:
        """What was sampled of the prompts with one answer.

        Raises:
            UsageError: If the effect belongs to no trace.
        """
        context = require_context(self.context, "What was sampled")
        if context.units is None:
            return self.sampling
        counts = ~np.isnan(context.clean_log_prob)
        units = tuple(unit for unit, does_count in zip(context.units, counts, strict=True) if does_count)
        return dataclasses.replace(self.sampling, units=units)

    def select(self, rows: np.ndarray) -> EffectRecord:
        """The effect on some prompts only; it belongs to no trace."""
        chosen = {name: values[rows] for name, values in self.rows.items()}
        return dataclasses.replace(self, rows=chosen, context=None)
