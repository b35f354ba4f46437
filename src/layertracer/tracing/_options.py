"""Options of a trace, and what a model refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from layertracer._errors import SiteError, UsageError
from layertracer._types import (
    FALLBACK_SITE,
    SITES,
    Mask,
    Noise,
    Perturbation,
    Sample,
    Site,
    Skip,
    TargetKind,
    TargetTokens,
    is_site_asked,
)
from layertracer.measures import OnsetCriterion, Rise
from layertracer.tasks import EncodedTask, Task
from layertracer.tracing._model import TracedModel, encode_for


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What is traced and how.

    Attributes:
        perturbation: What is done to each layer.
        onset: When the target counts as risen.
        target: "answer" follows the sample's answer, "model" the model's own top token.
        target_tokens: "first" follows the answer's first token, "all" the teacher-forced product.
        share_prefix: Whether what prompts have in common is read once, where that is proved right; None where it is
            worth it.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them there.
        template_arguments: What else the template is given, e.g. {"enable_thinking": False}.
        seed: Seed of the bootstrap.
        audit: Share of the trace's arithmetic in which some of its numbers are measured again; 0 for none.
        memory: Memory that the trace may take beyond the weights, e.g. "4GiB"; None for most of what is free.
        command: The command line, for the record.
    """

    perturbation: Perturbation = field(default_factory=Mask)
    onset: OnsetCriterion = field(default_factory=Rise)
    target: TargetKind = "answer"
    target_tokens: TargetTokens = "first"
    share_prefix: bool | None = None
    chat: bool = False
    system: str | None = None
    template_arguments: Mapping[str, Any] | None = None
    seed: int = 0
    audit: float = 0.1
    memory: str | int | None = None
    command: Sequence[str] | None = None

    @property
    def followed(self) -> TargetTokens | None:
        """Tokens of the answers that are followed; None where the model's own are."""
        return self.target_tokens if self.target == "answer" else None


def encode_task(model: TracedModel, samples: Task | Iterable[Sample], options: TraceOptions) -> EncodedTask:
    """A task, or samples, as token ids of the model's own tokenizer, as the options ask for them."""
    return encode_for(
        model,
        samples,
        chat=options.chat,
        system=options.system,
        template_arguments=options.template_arguments,
        followed=options.followed,
    )


def fills_from_runs(perturbation: Perturbation) -> bool:
    """Whether masked dimensions become something that stands at the site in clean runs."""
    return isinstance(perturbation, Mask) and perturbation.fill != "zero"


def settle_site(model: TracedModel, options: TraceOptions) -> tuple[TraceOptions, tuple[str, ...]]:
    """The options with a site that the model has, and what to say where it is not the one that is usual.

    Where nobody asked for a site, one that every model has takes the place of one that this model has not.

    Raises:
        UsageError: If what is asked for is no perturbation.
        SiteError: If no layer of the model has the site asked for, or what it adds to the stream could not be told
            apart.
    """
    perturbation = options.perturbation
    if not isinstance(perturbation, Mask | Noise | Skip):
        raise UsageError(
            f"perturbation must be a Mask, Noise or Skip, got {perturbation!r}. For masks of your own use "
            "Mask.explicit(keep)."
        )
    reason = _why_not_offered(model, perturbation.site)
    if reason is None:
        return options, ()
    if isinstance(perturbation, Skip) or is_site_asked(perturbation):
        raise SiteError(
            f"The site {perturbation.site!r} {reason} in {model.name!r}, so that nothing can be masked there. Sites of "
            f"this model: {', '.join(_offered(model))}."
        )
    note = (
        f"The site is {FALLBACK_SITE!r}: nobody asked for one, and the usual one, {perturbation.site!r}, {reason} in "
        f"{model.name!r}."
    )
    return replace(options, perturbation=replace(perturbation, site=FALLBACK_SITE)), (note,)


def _why_not_offered(model: TracedModel, site: Site) -> str | None:
    """What stands against a site in a model; None where nothing does.

    Raises:
        SiteError: If it is "state", and that is not offered.
    """
    check = model.self_check
    if site == "state":
        model.state_proof.site()
        return None
    if site == "block_output" or (site in check.errors and check[site].passed):
        return None
    if check.method == "plain":
        return "was not proved, since it is traced by the plain method,"
    return "could not be proved right" if site in check.errors else "does not exist"


def _offered(model: TracedModel) -> list[Site]:
    """The sites that were proved at load, and the one that needs no proof of its own."""
    check = model.self_check
    return [one for one in SITES if one == "block_output" or (one in check.errors and check[one].passed)]
