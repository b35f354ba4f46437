"""What is asked of every subject."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._types import Site

PARTICLE_SITE: Site = "block_output"
"""A particle does not depend on what is masked: it is taken from the runs at this site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Tasks, sites and numbers of a study.

    Attributes:
        tasks: Word-pair tasks of which the miniatures know every word, or "recall".
        sites: Where layers are masked.
        n_shot: Demonstrations of a word-pair task.
        n_prompts: Prompts of a trace.
        n_draws: Draws of the mask.
        n_resamples: Bootstrap resamples of a comparison.
    """

    tasks: tuple[str, ...] = ("antonym", "synonym", "present-past", "singular-plural", "recall")
    sites: tuple[Site, ...] = ("block_output", "mixer_output", "state")
    n_shot: int = 4
    n_prompts: int = 48
    n_draws: int = 5
    n_resamples: int = 2000
