"""What a validation is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from layertracer._types import Sample, Site, sites_there_are
from layertracer.evidence import Corruption
from layertracer.tasks import Task
from layertracer.tracing import Lens, TracedModel

Text: TypeAlias = "str | os.PathLike[str] | Task | Sequence[Sample] | None"
"""As `gather_text` takes it; None for what the model writes itself."""

REFERENCE = 0.2
"""The share of the dimensions that a mask of the trace's defaults takes."""

_QUICK_PROMPTS, _QUICK_FEW = 16, 6
_QUICK_SITES = 2
_FEW = 12
_PASSAGES, _QUICK_PASSAGES = 8, 5
_TOKENS, _QUICK_TOKENS = 64, 24
_FRACTIONS, _QUICK_FRACTIONS = (0.01, 0.02, 0.05, 0.1, REFERENCE, 0.4, 0.8), (0.05, REFERENCE, 0.8)
_CONTROLS = ("arbitrary_labels", "shuffled_demonstrations", "reinitialised_model", "random_directions")
_QUICK_CONTROLS = ("arbitrary_labels", "reinitialised_model")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """What is asked.

    Attributes:
        quick: Whether the short form is asked for: few prompts, the logit lens, skips and zero-ablations, two controls,
            three doses.
        lenses: Kinds of lenses to fit ("tuned", "jacobian", "linear"), and lenses that are fitted, read beside the
            logit lens.
        causal: How causal tracing corrupts: "swap" or "noise"; None for no causal tracing.
        fractions: Shares of the dimensions to mask, ascending, the reference among them; None for those of the form.
        controls: Names of the controls; None for those of the form.
        seed: Seed of masks, random targets, controls and resamples.
        audit: Share in which numbers are measured again the plain way.
        memory: Memory that the passes may take; None for most of what is free.
        n_demonstration_sets: Sets of demonstrations in the crossed design.
        n_templates: Templates in the crossed design, at most.
    """

    quick: bool = False
    lenses: tuple[str | Lens, ...] = ()
    causal: Corruption | None = "swap"
    fractions: tuple[float, ...] | None = None
    controls: tuple[str, ...] | None = None
    seed: int = 0
    audit: float = 0.1
    memory: str | int | None = None
    n_demonstration_sets: int = 4
    n_templates: int = 3

    @property
    def doses(self) -> tuple[float, ...]:
        """Shares of the dimensions to mask."""
        if self.fractions is not None:
            return self.fractions
        return _QUICK_FRACTIONS if self.quick else _FRACTIONS

    @property
    def asked_controls(self) -> tuple[str, ...]:
        """Names of the controls."""
        if self.controls is not None:
            return self.controls
        return _QUICK_CONTROLS if self.quick else _CONTROLS

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites to trace, the usual one first; in the short form that and the block's output."""
        return sites_there_are()[:_QUICK_SITES] if self.quick else sites_there_are()

    @property
    def n_passages(self) -> int:
        """Passages of running text."""
        return _QUICK_PASSAGES if self.quick else _PASSAGES

    @property
    def passage_tokens(self) -> int:
        """Tokens of each."""
        return _QUICK_TOKENS if self.quick else _TOKENS

    @property
    def most_prompts(self) -> int | None:
        """Prompts of the task that are taken, at most; None for all."""
        return _QUICK_PROMPTS if self.quick else None

    @property
    def n_few(self) -> int:
        """Prompts on which stages run that take many forwards for each, at most."""
        return _QUICK_FEW if self.quick else _FEW


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationQuestion:
    """What a validation is asked.

    Attributes:
        model: The model.
        task: The task, or samples with answers.
        text: Running text; None for what the model writes itself.
        with_text: Whether running text is measured on.
        options: The rest.
    """

    model: TracedModel
    task: Task | Sequence[Sample]
    text: Text = None
    with_text: bool = True
    options: ValidationOptions = field(default_factory=ValidationOptions)
