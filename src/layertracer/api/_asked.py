"""What traces, plans and readouts are asked alike, and the kinds of things in which users say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from layertracer._types import Perturbation, Sample
from layertracer.api._samples import take_samples
from layertracer.api._taken import take_choice, take_perturbations
from layertracer.measures import OnsetCriterion
from layertracer.tasks import Task

if TYPE_CHECKING:
    from layertracer.tracing import Lens, Loadable, Progress, TracedModel

    ModelLike: TypeAlias = Loadable
    TaskLike: TypeAlias = Any
    OnePerturbation: TypeAlias = Perturbation | type[Perturbation] | str
    PerturbationLike: TypeAlias = OnePerturbation | Sequence[OnePerturbation] | None
    LensLike: TypeAlias = Lens | str | Sequence[Lens | str] | None
    OnsetLike: TypeAlias = OnsetCriterion | type[OnsetCriterion] | str | None
    ProgressLike: TypeAlias = Callable[[Progress], None] | bool | None
else:  # under test, annotations are looked up when a function is called: what is none of these has an error of ours
    TracedModel = ModelLike = TaskLike = PerturbationLike = LensLike = OnsetLike = ProgressLike = Any


def asked_of_layers(perturbation: object, lens: object, *, target: object, target_tokens: object) -> dict[str, Any]:
    """What is done to the layers, through what they are read, and what is followed, as options of a trace.

    Raises:
        UsageError: If an argument is not of a kind that is taken.
        UnknownNameError: If a name is unknown.
    """
    from layertracer.tracing import take_lenses

    (first, *further), lenses = take_perturbations(perturbation), take_lenses(lens)
    return {
        "perturbation": [first, *further] if further else first,
        "lenses": lenses,
        "target": take_choice("target", target, ("answer", "model")),
        "target_tokens": take_choice("target_tokens", target_tokens, ("first", "all")),
    }


def prompts_for(
    model: TracedModel, given: object, *, needs_answers: bool, whole: bool = False
) -> Task | tuple[Sample, ...]:
    """The prompts that a model is to read, see `take_samples`.

    Raises:
        LayerTracerError: If they are not of a kind that is taken.
    """
    config = getattr(model.module, "config", None)
    pad_id = getattr(model.tokenizer, "pad_token_id", None)
    pad_id = getattr(config, "pad_token_id", None) if pad_id is None else pad_id
    return take_samples(
        given, needs_answers=needs_answers, pad_id=pad_id if isinstance(pad_id, int) else None, whole=whole
    )
