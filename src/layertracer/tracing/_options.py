"""What is asked of a trace, and what a model refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layertracer._errors import SiteError, UsageError
from layertracer._types import SITES, Mask, Noise, Perturbation, Sample, Skip, TargetKind, TargetTokens
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


def refuse_perturbation(model: TracedModel, perturbation: Perturbation) -> None:
    """Raise for what is no perturbation, or one at a site that was not proved for the model.

    Raises:
        UsageError: If it is no perturbation.
        SiteError: If no layer of the model has such a part, or what that adds to the stream could not be told apart.
    """
    if not isinstance(perturbation, Mask | Noise | Skip):
        raise UsageError(
            f"perturbation must be a Mask, Noise or Skip, got {perturbation!r}. For masks of your own use "
            "Mask.explicit(keep)."
        )
    check, site, name = model.self_check, perturbation.site, model.name
    if site == "block_output":
        return
    if site == "state":
        model.state_proof.site()
        return
    if site in check.errors and check[site].passed:
        return
    offered = [one for one in SITES if one == "block_output" or (one in check.errors and check[one].passed)]
    reason = "could not be proved right" if site in check.errors else "does not exist"
    if check.method == "plain":
        reason = "was not proved, since it is traced by the plain method,"
    raise SiteError(
        f"The site {site!r} {reason} in {name!r}, so that nothing can be masked there. Sites of this model: "
        f"{', '.join(offered)}."
    )
