"""A trace as data: everything that was measured, and what follows from it. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float

from layertracer._errors import RunError, UsageError
from layertracer._types import (
    Audit,
    Certificate,
    LayerMeasure,
    Method,
    MixerGroup,
    SelfCheck,
    Status,
    TaskParticle,
    VulnerableLayer,
    read_only,
)
from layertracer.measures import (
    DominantDimensions,
    Robustness,
    Sampling,
    Sensitivity,
    TargetCurves,
    attribute_to_dominant,
    find_missing,
    find_task_particle,
    find_vulnerable_layer,
    group_by_mixer,
    measure_robustness,
    onset_from_dict,
    sweep_onset,
)
from layertracer.runs._context import sampled_draws
from layertracer.runs._effects import EffectRecord
from layertracer.runs._equality import same_values
from layertracer.runs._lens_records import LensRecord
from layertracer.runs._named import columns_of, context_of, gather_effects, gather_lenses, gather_measures
from layertracer.runs._specs import ModelRecord, PromptRecord, TraceSpec, storable_text

if TYPE_CHECKING:
    import pandas as pd

# Not `Self`, which beartype cannot check in a class that it does not decorate.
Record = TypeVar("Record", bound="TraceRecord")

ARRAY_AXES: Mapping[str, tuple[type[np.generic], tuple[str, ...]]] = {
    "target_log_prob": (np.float32, ("prompt", "layer")),
    "embedding_log_prob": (np.float32, ("prompt",)),
    "target_rank": (np.int32, ("prompt", "layer")),
    "entropy_bits": (np.float32, ("prompt", "layer")),
    "js_bits": (np.float32, ("prompt", "draw", "layer")),
    "top_ids": (np.int32, ("prompt", "layer", "k")),
    "top_prob": (np.float32, ("prompt", "layer", "k")),
    "dominant_dimension": (np.int32, ("layer",)),
    "dominant_ratio": (np.float32, ("layer",)),
    "dominant_hit": (np.bool_, ("draw", "layer")),
}
"""Type and axes of every array of a record."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceRecord:
    """Everything that one trace measured.

    Arrays are copied and read-only. `n_prompts` may be smaller than `n_requested`, and even 0, where a
    run was interrupted or failed. Two records are equal if all their values are, NaN equal to NaN.

    Attributes:
        spec: What was asked.
        model: The model, without its weights.
        self_check: The proof at load that the reading is right.
        provenance: Versions, platform, commit, command line, times; JSON values.
        prompts: The prompts that were finished, in the order given.
        target_log_prob: Log-probability of the target after each layer, nats; the sum over its tokens
            with `target_tokens="all"`.
        embedding_log_prob: The same read from the embeddings, nats.
        target_rank: Rank of the target after each layer, 1 = top; the worst of several tokens.
        entropy_bits: Entropy of the distribution after each layer, bits; the mean over the positions of several tokens.
        js_bits: JS divergence between the clean and the perturbed output, bits, in [0, 1]; the mean over the positions
            of several tokens. NaN, for all prompts and draws alike, at layers without the perturbed site.
        top_ids: The tokens most probable after each layer, best first.
        top_prob: Their probabilities.
        dominant_dimension: The dimension of the largest root mean square at the perturbed site.
        dominant_ratio: That root mean square relative to the median dimension's; NaN at the site "state", whose slots
            have no dimensions in common.
        dominant_hit: Whether the draw masks that dimension.
        tokens: Text of every token id that occurs.
        method: "ladder" or "plain".
        status: "complete", "interrupted" or "failed".
        error: What ended a failed run: "type" and "message"; None otherwise.
        warnings: What a user should know about the numbers.
        elapsed_s: Wall-clock time of the trace, seconds.
        n_requested: Number of prompts that were asked for.
        plan: What the trace was going to do and to take, see `TracePlan.to_dict`; None where it failed before it was
            planned, and in runs that were stored before there were plans.
        audit: What it measured of itself again; None where it failed before that, and in runs that were stored before
            there were audits.
        effects: What each perturbation does, by its site, in the order in which they were asked for. The first one is
            what `spec.perturbation`, `js_bits` and `dominant_*` say, and is made of these where left out. A copy with
            other `js_bits` or `dominant_*` (`dataclasses.replace`) has them there too, and what else the first effect
            measured stays; effects that are given and say otherwise than these are refused.
        measures: Layer measures by name.
        lenses: What other lenses than the logit lens read, by name.
        certificate: Of a trace that was to stop once a layer is certified: which one, and what that rests on. Each of
            its prompts has masks (or noise) of its own, `prompts` are those that were measured in all layers, and
            `dominant_ratio` is NaN. None in other traces. A selection keeps that of the whole trace.

    Raises:
        UsageError: If an array's shape does not fit the others, or effects, measures or lenses do not fit the trace.
    """

    # Shapes and types are those of ARRAY_AXES: checked whenever a record is made, not only under test.
    spec: TraceSpec
    model: ModelRecord
    self_check: SelfCheck
    provenance: Mapping[str, Any]
    prompts: tuple[PromptRecord, ...]
    target_log_prob: np.ndarray  # float32 [prompt, layer]
    embedding_log_prob: np.ndarray  # float32 [prompt]
    target_rank: np.ndarray  # int32 [prompt, layer]
    entropy_bits: np.ndarray  # float32 [prompt, layer]
    js_bits: np.ndarray  # float32 [prompt, draw, layer]
    top_ids: np.ndarray  # int32 [prompt, layer, k]
    top_prob: np.ndarray  # float32 [prompt, layer, k]
    dominant_dimension: np.ndarray  # int32 [layer]
    dominant_ratio: np.ndarray  # float32 [layer]
    dominant_hit: np.ndarray  # bool [draw, layer]
    tokens: Mapping[int, str]
    method: Method
    status: Status
    error: Mapping[str, Any] | None
    warnings: tuple[str, ...]
    elapsed_s: float
    n_requested: int
    plan: Mapping[str, Any] | None = None
    audit: Audit | None = None
    effects: Mapping[str, EffectRecord] = field(default_factory=dict)
    measures: Mapping[str, LayerMeasure] = field(default_factory=dict)
    lenses: Mapping[str, LensRecord] = field(default_factory=dict)
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        """Copy and freeze the arrays, and refuse those that do not fit together."""
        for name, (dtype, _) in ARRAY_AXES.items():
            object.__setattr__(self, name, read_only(getattr(self, name), dtype))
        texts = {int(token): storable_text(text) for token, text in self.tokens.items()}
        object.__setattr__(self, "tokens", texts)
        self._check_shapes()
        context = context_of(self)
        object.__setattr__(self, "effects", gather_effects(self, context))
        object.__setattr__(self, "measures", gather_measures(self))
        object.__setattr__(self, "lenses", gather_lenses(self, context))

    def _check_shapes(self) -> None:
        sizes = {"prompt": len(self.prompts), "layer": self.model.n_layers}
        for name, (_, axes) in ARRAY_AXES.items():
            shape = getattr(self, name).shape
            expected = [sizes.get(axis, axis) for axis in axes]
            fits = len(shape) == len(axes) and all(
                size == sizes.setdefault(axis, size) for axis, size in zip(axes, shape, strict=True)
            )
            if not fits:
                raise UsageError(
                    f"{name} has shape {list(shape)}, this record needs {expected} ([{', '.join(axes)}]). "
                    "Every array has one row per finished prompt and one column per layer of the model."
                )

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal, NaN equal to NaN."""
        if not isinstance(other, TraceRecord):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(TraceRecord)]
        return all(same_values(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        """Hash of what identifies the trace."""
        return hash((self.model.fingerprint, self.model.name, self.n_prompts, self.n_requested))

    def __repr__(self) -> str:
        """The trace in one line."""
        what = f"{type(self).__name__} of {self.model.name!r} on {self.spec.task.get('name', 'prompts')!r}"
        size = f"{self.n_prompts} of {self.n_requested} prompts, {self.n_draws} draws, {self.n_layers} layers"
        return f"<{what}: {size}, {self.status}>"

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return self.model.n_layers

    @property
    def n_prompts(self) -> int:
        """Number of finished prompts."""
        return len(self.prompts)

    @property
    def n_draws(self) -> int:
        """Number of repetitions of the perturbation."""
        return int(self.js_bits.shape[1])

    @property
    def target_prob(self) -> Float[np.ndarray, "prompt layer"]:
        """Probability of the target after each layer, in [0, 1]."""
        return np.asarray(np.exp(self.target_log_prob))

    @property
    def embedding_prob(self) -> Float[np.ndarray, " prompt"]:
        """Probability of the target read from the embeddings, in [0, 1]."""
        return np.asarray(np.exp(self.embedding_log_prob))

    @property
    def layers_without_site(self) -> tuple[int, ...]:
        """The layers in which there is nothing to perturb at the site, such as the MLP of a layer that has none.

        Their JS divergence is NaN for every prompt and draw. Empty where no prompt was finished.
        """
        return tuple(np.flatnonzero(find_missing(self.js_bits)).tolist())

    @property
    def solved_share(self) -> float | None:
        """Share of the prompts with an answer of which the model gives all of it.

        None where no prompt has an answer, and where of some that it begins with it is not known whether it goes on.
        """
        if any(prompt.solved is None and prompt.begins is not None for prompt in self.prompts):
            return None
        solved = [prompt.solved for prompt in self.prompts if prompt.solved is not None]
        return sum(solved) / len(solved) if solved else None

    @property
    def begins_share(self) -> float | None:
        """Share of the prompts with an answer where the model's top token is the first followed one of the answer.

        None where no prompt has an answer.
        """
        begins = [prompt.begins for prompt in self.prompts if prompt.begins is not None]
        return sum(begins) / len(begins) if begins else None

    @cached_property
    def curves(self) -> TargetCurves:
        """The target's curves, as the onset criteria take them."""
        return TargetCurves(
            log_prob=self.target_log_prob,
            embedding_log_prob=self.embedding_log_prob,
            top1_share=(self.target_rank == 1).astype(np.float32),
        )

    @cached_property
    def sampling(self) -> Sampling:
        """What of this trace was sampled: prompts, or the sets of demonstrations that they share, and draws."""
        sets = tuple(prompt.demonstration_set for prompt in self.prompts)
        known = tuple(number for number in sets if number is not None)
        return Sampling(
            units=known if len(known) == len(sets) and known else None,
            **sampled_draws(self.spec.perturbation, by_prompt=self.certificate is not None),
        )

    @cached_property
    def task_particle(self) -> TaskParticle:
        """Where the target's probability first rises; the bootstrap is seeded by `spec.seed`.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("task particle")
        criterion = onset_from_dict(self.spec.onset)
        return find_task_particle(self.curves, criterion, seed=self.spec.seed, sampling=self.sampling)

    @cached_property
    def vulnerable_layer(self) -> VulnerableLayer:
        """Where the perturbation changes the output most; the bootstrap is seeded by `spec.seed`.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("vulnerable layer")
        return find_vulnerable_layer(self.js_bits, seed=self.spec.seed, sampling=self.sampling)

    @cached_property
    def by_mixer(self) -> tuple[MixerGroup, ...]:
        """JS divergence and gain for each kind of mixer, in order of first appearance; one entry where all are alike.

        Kinds sit at different depths, so that a difference between them is also one of depth.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("result by kind of mixer")
        mixers = [layer.mixer for layer in self.model.layers]
        return group_by_mixer(self.js_bits, self.curves, mixers, seed=self.spec.seed, sampling=self.sampling)

    @cached_property
    def robustness(self) -> Robustness:
        """Maximum, mean and relative-depth profile of the JS divergence.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("robustness")
        return measure_robustness(self.js_bits)

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """How far the task particle moves with the parameter of the criterion that was used: `delta` of `Rise`.

        Everything else about the criterion stays as it was, so that at its own value the sweep says what
        `task_particle` says.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("sensitivity of the task particle")
        return sweep_onset(self.curves, onset_from_dict(self.spec.onset))

    @cached_property
    def dominant(self) -> DominantDimensions:
        """The enormous dimensions of the stream and their share of the JS divergence.

        Raises:
            RunError: If no prompt was finished.
        """
        self._require_prompts("share of the dominant dimensions")
        return attribute_to_dominant(
            self.js_bits,
            self.dominant_hit,
            dominant_dimension=self.dominant_dimension,
            dominant_ratio=self.dominant_ratio,
        )

    def _require_prompts(self, quantity: str) -> None:
        if self.n_prompts == 0:
            reason = f": {self.error.get('message', '')}" if self.error else ""
            raise RunError(
                f"There is no {quantity}: none of the {self.n_requested} prompts was finished (status "
                f"{self.status!r}{reason}). Check n_prompts first, or run the trace again."
            )

    def select(self: Record, prompt_indices: Sequence[int]) -> Record:
        """The trace of some prompts only, in the order given.

        `status` and `elapsed_s` stay those of the whole run, and so does `n_requested`, unless there are more prompts
        since some are repeated.

        Args:
            prompt_indices: Rows of the `prompt` axis.

        Raises:
            UsageError: If an index is out of range.
        """
        rows = np.asarray(list(prompt_indices), dtype=np.int64)
        outside = rows[(rows < 0) | (rows >= self.n_prompts)]
        if outside.size:
            raise UsageError(
                f"There is no prompt {int(outside[0])}: this trace has {self.n_prompts} prompts, "
                f"counted from 0. Give indices below {self.n_prompts}."
            )
        arrays = {name: getattr(self, name)[rows] for name, (_, axes) in ARRAY_AXES.items() if axes[0] == "prompt"}
        prompts = tuple(self.prompts[row] for row in rows)
        return dataclasses.replace(
            self,
            prompts=prompts,
            n_requested=max(self.n_requested, len(prompts)),
            effects={key: effect.select(rows) for key, effect in self.effects.items()},
            measures={
                name: dataclasses.replace(measure, values=measure.values[rows])
                for name, measure in self.measures.items()
            },
            lenses={name: lens.select(rows) for name, lens in self.lenses.items()},
            **arrays,
        )

    def solved_only(self: Record) -> Record:
        """The trace of the prompts of which the model gives the whole answer."""
        return self.select([row for row, prompt in enumerate(self.prompts) if prompt.solved])

    def to_pandas(self) -> pd.DataFrame:
        """One row per prompt and layer.

        Returns:
            Columns `prompt`, `layer`, `mixer`, `target_prob`, `target_log_prob` (nats), `target_rank`,
            `entropy_bits` and `js_bits` (mean over draws; NaN at layers without the
            perturbed site). Behind them one for every layer measure, by its name; `target_log_prob_loss` (nats, mean
            over draws) where it was measured; of further perturbations the same, e.g. `mlp_output.js_bits`; and of
            other lenses e.g. `linear.target_prob`.
        """
        import pandas as pd

        return pd.DataFrame(columns_of(self))
