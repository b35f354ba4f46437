"""Samples as causal tracing runs them, and those that it cannot use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layertracer._errors import UsageError
from layertracer._types import EncodedSample, Sample
from layertracer.evidence import ExcludedSample
from layertracer.tasks import Task, encode_causally, read_ids
from layertracer.tracing import TracedModel
from layertracer.validation._causal.options import CausalSettings

Ids = tuple[int, ...]

_APART = (
    "answer and contrast answer stand behind different tokens, so that their probabilities cannot be compared at one "
    "position"
)
_NO_CONTRAST = (
    "the sample has no contrast, and no other fact of its relation has a subject of as many tokens with another answer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrompt:
    """A sample as it is run.

    Attributes:
        index: Its number, as given.
        ids: The clean prompt, everything that is read before the followed token.
        span: First position of what is corrupted, and the one behind its last; None where there is none.
        corrupted_ids: The contrast prompt; None with noise.
        answers: Tokens any of which is right.
        contrast_answers: Tokens of the contrast's answer.
    """

    index: int
    ids: Ids
    span: tuple[int, int] | None
    corrupted_ids: Ids | None
    answers: Ids
    contrast_answers: Ids = ()


@dataclass(slots=True, kw_only=True)
class Asked:
    """All samples, and what is known of them before the model runs.

    Attributes:
        prompts: The samples as they are run, in the order given.
        samples: The same as they were encoded.
        excluded: Those that cannot be used, by their numbers.
        spec: The task's specification.
        notes: What must be said of them.
    """

    prompts: tuple[AskedPrompt, ...]
    samples: tuple[EncodedSample, ...]
    excluded: dict[int, ExcludedSample]
    spec: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def exclude(self, index: int, reason: str, explanation: str) -> None:
        """Note that a sample cannot be used, unless that is known already."""
        self.excluded.setdefault(index, ExcludedSample(prompt=index, reason=reason, explanation=explanation))

    @property
    def usable(self) -> list[AskedPrompt]:
        """The prompts that are not excluded."""
        return [prompt for prompt in self.prompts if prompt.index not in self.excluded]

    @property
    def units(self) -> tuple[int, ...] | None:
        """What would be taken anew together: a set of demonstrations, else copies of one prompt; None where none is."""
        sets = [sample.demonstration_set for sample in self.samples]
        if len(set(sets)) > 1 and None not in sets:
            return tuple(int(one) for one in sets if one is not None)
        numbers: dict[Ids, int] = {}
        units = tuple(numbers.setdefault(prompt.ids, len(numbers)) for prompt in self.prompts)
        return units if len(numbers) < len(units) else None


def ask(model: TracedModel, given: Task | Sequence[Sample], settings: CausalSettings) -> Asked:
    """The samples with their tokens, and those that cannot be used before the model has run.

    Raises:
        TaskError: If the task is empty, or a text has no token.
        UsageError: If a text has no tokenizer, or a token id is none of the model's.
    """
    encoded = encode_causally(
        given,
        model.tokenizer,
        lend=settings.corrupt == "swap",
        seed=settings.seed,
        chat=settings.chat,
        system=settings.system,
        template_arguments=settings.template_arguments or None,
    )
    asked = Asked(
        prompts=tuple(_lay_out(index, sample, settings) for index, sample in enumerate(encoded.samples)),
        samples=encoded.samples,
        excluded={},
        spec=encoded.spec,
        notes=list(encoded.warnings),
    )
    for prompt, sample in zip(asked.prompts, asked.samples, strict=True):
        for reason, explanation in _find_reasons(prompt, sample, settings, model):
            asked.exclude(prompt.index, reason, explanation)
    _check_ids(asked.usable, model)
    asked.notes += _notes(asked, settings)
    return asked


def _lay_out(index: int, sample: EncodedSample, settings: CausalSettings) -> AskedPrompt:
    """A sample as it is run."""
    ids, contrast = read_ids(sample), sample.contrast_ids
    lead = sample.answer_ids[: sample.n_lead]
    alike = [answer for answer in sample.answers if answer.ids[: answer.n_lead] == lead]
    differing = _differing(ids, contrast)
    is_swap = settings.corrupt == "swap"
    other = sample.contrast_answer
    is_comparable = other is not None and other.ids and other.ids[: other.n_lead] == lead
    return AskedPrompt(
        index=index,
        ids=ids,
        span=differing if is_swap else sample.subject_span or differing,
        corrupted_ids=contrast if is_swap else None,
        answers=tuple(dict.fromkeys(answer.ids[answer.n_lead] for answer in alike)),
        contrast_answers=(other.ids[other.n_lead],) if other is not None and is_comparable else (),
    )


def _differing(ids: Ids, other: Ids | None) -> tuple[int, int] | None:
    """The first position at which two prompts of one length differ, and the one behind the last; None where none is."""
    if other is None or len(ids) != len(other):
        return None
    places = [at for at, (one, another) in enumerate(zip(ids, other, strict=True)) if one != another]
    return (places[0], places[-1] + 1) if places else None


def _find_reasons(
    prompt: AskedPrompt, sample: EncodedSample, settings: CausalSettings, model: TracedModel
) -> Iterator[tuple[str, str]]:
    """Why a sample cannot be used, the first reason first; nothing where it can."""
    longest, n_tokens = model.network.max_length, len(prompt.ids)
    if longest is not None and n_tokens > longest:
        yield "too_long", f"the prompt has {n_tokens} tokens, and the model's context {longest}"
    if not prompt.answers:
        yield "no_answer", "the sample has no answer"
    yield from _reasons_of_contrast(prompt, sample) if settings.corrupt == "swap" else _reasons_of_subject(prompt)
    other = sample.contrast_answer
    if other is None:
        return
    if not prompt.contrast_answers:
        yield "answers_apart", _APART
    elif set(prompt.contrast_answers) & set(prompt.answers):
        yield "same_answer", "answer and contrast answer begin with the same token"


def _reasons_of_contrast(prompt: AskedPrompt, sample: EncodedSample) -> Iterator[tuple[str, str]]:
    """Why a contrast prompt cannot be run in the place of the prompt."""
    contrast = sample.contrast_ids
    if contrast is None:
        yield "no_contrast", _NO_CONTRAST
    elif len(contrast) != len(prompt.ids):
        yield "lengths_differ", f"the prompt has {len(prompt.ids)} tokens, and the contrast {len(contrast)}"
    elif prompt.span is None:
        yield "same_prompt", "prompt and contrast have the same tokens"


def _reasons_of_subject(prompt: AskedPrompt) -> Iterator[tuple[str, str]]:
    """Why noise has nowhere to go."""
    if prompt.span is None:
        yield "no_subject", "the sample names no subject, or it does not stand in the prompt"


def _check_ids(prompts: Sequence[AskedPrompt], model: TracedModel) -> None:
    """Raise for token ids that the model does not know.

    Raises:
        UsageError: If there is one.
    """
    n_read, n_said = model.anatomy.n_input_tokens, model.anatomy.d_vocab
    for prompt in prompts:
        outside = [token for token in (*prompt.ids, *(prompt.corrupted_ids or ())) if not 0 <= token < n_read]
        outside += [token for token in (*prompt.answers, *prompt.contrast_answers) if not 0 <= token < n_said]
        if outside:
            raise UsageError(
                f"Sample {prompt.index} has token id {outside[0]}, but {model.name!r} reads ids from 0 to {n_read - 1} "
                f"and predicts ids from 0 to {n_said - 1}. Use the model's own tokenizer."
            )


def _notes(asked: Asked, settings: CausalSettings) -> Iterator[str]:
    """What must be said of the samples that can be used."""
    usable = asked.usable
    pairs = [(prompt, asked.samples[prompt.index]) for prompt in usable]
    n_other = sum(len(prompt.answers) < len({a.ids[a.n_lead] for a in sample.answers}) for prompt, sample in pairs)
    if n_other:
        yield (
            f"{n_other} of {len(usable)} prompts have answers that stand behind other tokens than their first one: "
            "they are not followed."
        )
    if settings.corrupt == "swap":
        more = sum(_reaches_beyond(prompt, sample.subject_span) for prompt, sample in pairs)
        if more:
            yield (
                f"{more} of {len(usable)} contrasts differ from their prompts in more than the subject: what is "
                "corrupted goes from the first token that differs to the last."
            )
        return
    n_bare = sum(sample.subject_span is None for _, sample in pairs)
    if n_bare:
        yield (
            f"{n_bare} of {len(usable)} prompts name no subject: noise is put where they differ from their contrasts."
        )


def _reaches_beyond(prompt: AskedPrompt, subject: tuple[int, int] | None) -> bool:
    if subject is None or prompt.span is None:
        return False
    return prompt.span[0] < subject[0] or prompt.span[1] > subject[1]
