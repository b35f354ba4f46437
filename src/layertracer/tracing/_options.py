"""Options of a trace, and what a model refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from layertracer._errors import SiteError, UsageError
from layertracer._types import FALLBACK_SITE, Mask, Perturbation, Sample, TargetKind, TargetTokens, Until, is_site_asked
from layertracer._types.sites import SITES as FACTS
from layertracer.measures import OnsetCriterion, Rise
from layertracer.tasks import Task
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._lenses.protocol import Lens
from layertracer.tracing._model import LaidOut, TracedModel, lay_out
from layertracer.tracing._perturbers.protocol import is_perturbation
from layertracer.tracing._perturbers.specification import check_specification
from layertracer.tracing._sites.protocol import SITES


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What is traced and how.

    Attributes:
        perturbation: What is done to each layer; the first where several perturbations are given as a sequence.
        further: The others of these.
        onset: When the target counts as risen.
        target: "answer" follows the sample's answer, "model" the model's own top token.
        target_tokens: "first" follows the answer's first token, "all" the teacher-forced product.
        share_prefix: Whether what prompts have in common is read once, where that is proved right; None where it is
            worth it.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them there.
        template_arguments: What else the template is given, e.g. {"enable_thinking": False}.
        seed: Seed of the bootstrap.
        lenses: Lenses beside the logit lens.
        audit: Share of the trace's arithmetic in which some of its numbers are measured again; 0 for none.
        memory: Memory that the trace may take beyond the weights, e.g. "4GiB"; None for most of what is free.
        command: The command line, for the record.
        until: "certified" to stop once one layer is certified to be the most vulnerable, see `Certificate`; None to
            trace all prompts.
        confidence: Of what is certified.
        budget: Cells (prompts × draws × layers) that are measured at most until then; None for all.
        layers: Of the layers that have the site those that are perturbed; None for all of them.
        by_prompt: Whether every prompt has masks, or noise, of its own.
    """

    perturbation: Perturbation | Sequence[Perturbation] = field(default_factory=Mask)
    further: tuple[Perturbation, ...] = ()
    onset: OnsetCriterion = field(default_factory=Rise)
    target: TargetKind = "answer"
    target_tokens: TargetTokens = "first"
    share_prefix: bool | None = None
    chat: bool = False
    system: str | None = None
    template_arguments: Mapping[str, Any] | None = None
    seed: int = 0
    lenses: Sequence[Lens] = ()
    audit: float = 0.1
    memory: str | int | None = None
    command: Sequence[str] | None = None
    until: Until | None = None
    confidence: float = 0.95
    budget: int | None = None
    layers: tuple[int, ...] | None = None
    by_prompt: bool = False

    def __post_init__(self) -> None:
        """Take several perturbations apart.

        Raises:
            UsageError: If there is none.
        """
        if isinstance(self.perturbation, Sequence):
            if not self.perturbation:
                raise UsageError("perturbation must be a perturbation, or several of them, got none. Give one or more.")
            object.__setattr__(self, "further", tuple(self.perturbation[1:]))
            object.__setattr__(self, "perturbation", self.perturbation[0])

    @property
    def perturbations(self) -> tuple[Perturbation, ...]:
        """All that is done, each to rows of its own."""
        return (cast("Perturbation", self.perturbation), *self.further)


def lay_out_task(model: TracedModel, samples: Task | Iterable[Sample], options: TraceOptions) -> LaidOut:
    """The prompts of a task, or samples, as the options ask for them; each once where rounds are to be independent."""
    laid_out = lay_out(
        model,
        samples,
        chat=options.chat,
        system=options.system,
        template_arguments=options.template_arguments,
        target=options.target,
        target_tokens=options.target_tokens,
    )
    return laid_out if options.until is None else _without_copies(laid_out)


def _without_copies(laid_out: LaidOut) -> LaidOut:
    """The first of all prompts that are alike, numbered anew: another copy of a prompt is no other observation.

    Alike are prompts of the same tokens, whatever answer is followed: the divergence is of the prompt.
    """
    encoded, prompts = laid_out
    first: dict[tuple[tuple[int, ...], tuple[int, ...] | None], int] = {}
    for number, sample in enumerate(encoded.samples):
        first.setdefault((sample.prompt_ids, sample.decoder_ids), number)
    n_copies = len(prompts) - len(first)
    if not n_copies:
        return laid_out
    kept = list(first.values())
    said = f"{n_copies:,} of {len(prompts):,} prompts are copies of another one and were left out: each is read once."
    samples = tuple(encoded.samples[number] for number in kept)
    return LaidOut(
        replace(encoded, samples=samples, warnings=(*encoded.warnings, said)),
        tuple(_renumber(prompts[number], index) for index, number in enumerate(kept)),
    )


def _renumber(prompt: Prompt, index: int) -> Prompt:
    return replace(prompt, index=index, more=tuple(replace(one, index=index) for one in prompt.more))


def settle_sites(model: TracedModel, options: TraceOptions) -> tuple[TraceOptions, tuple[str, ...]]:
    """The options with sites that the model has, and what to say where they are not those that were given.

    Where nobody asked for a site, one that every model has takes the place of one that this model has not; one of
    several is left out.

    Raises:
        UsageError: If what is asked for is no perturbation.
        SiteError: If no layer of the model has a site asked for, or what it adds to the stream could not be told
            apart; or if it has none of several.
    """
    kept, notes = [], []
    for perturbation in options.perturbations:
        if not is_perturbation(perturbation):
            raise UsageError(
                f"perturbation must be a Mask, Noise or Skip, got {perturbation!r}. For masks of your own use "
                "Mask.explicit(keep); for another kind of perturbation register what it does: "
                "layertracer.tracing.register_perturber(kind, make)."
            )
        check_specification(perturbation)
        settled, note = _settle(model, perturbation, among_several=bool(options.further))
        kept += [] if settled is None else [settled]
        notes += [] if note is None else [note]
    if not kept:
        raise SiteError(f"{model.name!r} has none of the sites: {' '.join(notes)}")
    return replace(options, perturbation=kept, further=()), tuple(notes)


def _settle(
    model: TracedModel, perturbation: Perturbation, *, among_several: bool
) -> tuple[Perturbation | None, str | None]:
    """A perturbation at a site that the model has, None where it is left out, and what to say of that."""
    site, is_asked = perturbation.site, is_site_asked(perturbation)
    try:
        reason = why_not_offered(model, site)
    except SiteError as refusal:
        if is_asked or not among_several:
            raise
        return None, f"The site {str(site)!r} is left out: {refusal}"
    if reason is None:
        return perturbation, None
    if is_asked:
        raise SiteError(
            f"The site {site!r} {reason} in {model.name!r}, so that nothing can be masked there. Sites of this model: "
            f"{', '.join(_offered(model))}."
        )
    if among_several:
        return None, f"The site {str(site)!r} is left out: it {reason} in {model.name!r}."
    note = (
        f"The site is {FALLBACK_SITE!r}: nobody asked for one, and the usual one, {site!r}, {reason} in {model.name!r}."
    )
    return replace(cast("Any", perturbation), site=FALLBACK_SITE), note


def why_not_offered(model: TracedModel, name: str) -> str | None:
    """What stands against a site in a model; None where nothing does.

    Raises:
        SiteError: If it is a site of the layers' caches, and that is not offered.
    """
    check, site = model.self_check, SITES[name]
    if site.joins == "cache":
        model.state_proof.site()
        return None
    if site.facts.meaning:
        if name in check.errors and check[name].passed:
            return None
        if check.method == "plain":
            return "was not proved, since it is traced by the plain method,"
        return "could not be proved right" if name in check.errors else "does not exist"
    return None if site.layers(model.network) else "does not exist"


def _offered(model: TracedModel) -> list[str]:
    """The sites that were proved at load, and those that need no proof of their own."""
    check = model.self_check
    return [
        name
        for name, site in SITES.items()
        if name in FACTS
        and site.joins != "cache"
        and ((name in check.errors and check[name].passed) if site.facts.meaning else site.layers(model.network))
    ]
