"""What is found: intervals, layers, checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Method = Literal["ladder", "plain"]
"""How the perturbed rows were computed: all in one pass, or one hooked forward at a time."""

Status = Literal["complete", "interrupted", "failed"]
"""How a run ended. An interrupted or failed run keeps the prompts that were finished."""


WHOLE_FINGERPRINT = "v2-"
"""Begins the fingerprint of all weights and settings. Those of older versions, of shapes and the unembedding, begin
otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval from resamples.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Coverage, e.g. 0.95.
    """

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParticle:
    """The layer at which the probability of the target first rises significantly.

    Attributes:
        layer: Layer of the mean curve; None where the criterion finds none. None is an answer.
        interval: Interval of that layer over resamples of the prompts; None where there is no layer, or too few
            prompts or resamples have one to tell (`note` says so).
        interval_share_found: Share of the resamples in which the criterion finds a layer.
        per_prompt: Layer of every prompt, None where none is found.
        share_found: Share of the prompts in which a layer is found.
        criterion: Name and parameters of the criterion.
        note: What must be said of the interval, or why there is none; None where there is nothing to say.
    """

    layer: int | None
    interval: Interval | None
    interval_share_found: float
    per_prompt: tuple[int | None, ...]
    share_found: float
    criterion: Mapping[str, object]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestLayer:
    """The layer with the largest mean of something, and whether it stands out.

    Attributes:
        layer: The layer.
        interval: From the first to the last of the contenders; None where prompts or random draws are too few to tell
            layers apart (`note` says so).
        stability: Share of the resamples of prompts and draws in which `layer` stays the argmax.
        per_prompt: The argmax of every prompt's own curve.
        is_edge: Whether it is the first or the last layer, which are special in most models.
        contenders: The layers that cannot be told from the largest, ascending, `layer` among them.
        note: What must be said of the interval, or why there is none; None where there is nothing to say.
    """

    layer: int
    interval: Interval | None
    stability: float
    per_prompt: tuple[int, ...]
    is_edge: bool
    contenders: tuple[int, ...]
    note: str | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the layer stands out: no other one can be the largest. Never where there is no interval."""
        return self.interval is not None and len(self.contenders) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VulnerableLayer(LargestLayer):
    """The layer whose perturbation changes the output most: argmax of the mean JS divergence.

    Attributes:
        mean_js_bits: Its mean JS divergence over prompts and draws.
    """

    mean_js_bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossLayer(LargestLayer):
    """The layer whose perturbation costs the target most: argmax of the mean loss of its log-probability.

    The loss is the clean log-probability minus the perturbed one. `per_prompt` has an entry for every prompt that
    counts: those with one answer that is right.

    Attributes:
        mean_loss_nats: Its mean loss over prompts and draws; negative where perturbing any layer helps the target.
    """

    mean_loss_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerGroup:
    """The layers of one kind of mixer, taken together.

    Kinds sit at different depths: a difference between them is also one of depth.

    Attributes:
        mixer: The kind, e.g. "attention", "mamba", "none".
        layers: The layers of that kind, ascending.
        n_perturbed: How many of them have the perturbed site.
        mean_depth: Mean relative depth (i + 1) / n_layers of the layers, in (0, 1].
        mean_js_bits: Mean JS divergence over prompts, draws and the layers that have the site; None where none has it.
        interval: Interval of that mean over resamples of prompts and draws, in bits; None where there is no mean, or
            one prompt or one random draw only.
        vulnerable_layer: The one of these layers with the largest mean JS divergence; None where none has the site.
        max_js_bits: Its mean JS divergence; None where there is none.
        mean_gain_prob: Mean gain of a layer in target probability, over prompts and layers.
    """

    mixer: str
    layers: tuple[int, ...]
    n_perturbed: int
    mean_depth: float
    mean_js_bits: float | None
    interval: Interval | None
    vulnerable_layer: int | None
    max_js_bits: float | None
    mean_gain_prob: float

    @property
    def n_layers(self) -> int:
        """Number of layers of that kind."""
        return len(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """One decoder layer, described without its module.

    Attributes:
        index: Position in the stack, from 0.
        path: Name of the module inside the model, e.g. "model.layers.3".
        mixer: Kind of the part that moves information between positions, e.g. "attention", "mamba", "none".
        mlp: Kind of the other part: "dense", "experts" or "none".
        n_parameters: Number of parameters of the layer.
    """

    index: int
    path: str
    mixer: str
    mlp: str
    n_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing proved at load, with the error that was measured.

    Attributes:
        name: What was checked, e.g. "readout".
        error: Largest deviation found.
        tolerance: Largest deviation allowed.
        unit: Unit of both: "nats" (log-probability), "bits" (JS divergence) or "relative".
        passed: Whether the deviation is within the tolerance.
        meaning: One sentence: what agrees with what.
    """

    name: str
    error: float
    tolerance: float
    unit: str
    passed: bool
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """The proof at load that the reading is right.

    Attributes:
        checks: Every check with its error.
        method: The method that the checks allow: "ladder" or "plain".
        row_by_row: Whether rows of a batch see one another, so that prompts must run one at a time.
        notes: What a user should know, e.g. why a model fell back to the plain method.
    """

    checks: tuple[Check, ...]
    method: Method
    row_by_row: bool = False
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> dict[str, float]:
        """The measured error of every check, by name."""
        return {check.name: check.error for check in self.checks}

    @property
    def passed(self) -> bool:
        """Whether every check is within its tolerance."""
        return all(check.passed for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check called `name`; KeyError where there is none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a trace measured of itself once more, the plain way: one prompt alone, one forward, one hook or none.

    Attributes:
        share: Share of the trace's arithmetic that this was to take; 0 where nothing was to be measured again.
        n_cells: How many numbers were compared: lens rows (prompt, layer) and perturbed rows (prompt, layer, draw).
        n_forwards: How many plain forwards that took.
        n_drawn: How many of these the seed alone had drawn, out of all forwards that the trace stands for.
        worst_nats: Largest disagreement of a log-probability, nats; None where none was compared.
        worst_bits: Largest disagreement of a JS divergence, bits; None where none was compared.
        notes: What came of it: slower ways that were taken, and disagreements that rounding explains.
    """

    share: float
    n_cells: int = 0
    n_forwards: int = 0
    n_drawn: int = 0
    worst_nats: float | None = None
    worst_bits: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def bound(self) -> float | None:
        """The largest share of the trace's forwards that may be wrong, at 95 %, since none of those drawn was.

        None wrong among n drawn at random: fewer than 3 / n of all. None where so few were drawn that this says
        nothing.
        """
        return 3 / self.n_drawn if self.n_drawn > 3 else None
