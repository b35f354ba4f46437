"""Contrast prompts made of other facts: another subject of the same relation and of as many tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layertracer._errors import AnswerError, TaskError
from layertracer._types import EncodedSample, Sample
from layertracer.tasks._make import make_task
from layertracer.tasks._subjects import with_subjects
from layertracer.tasks._task import Task
from layertracer.tasks._tokens.contrasts import read_ids
from layertracer.tasks._tokens.encode import encode_samples
from layertracer.tasks._tokens.subjects import locate_subject
from layertracer.tasks._tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """A sample with its tokens."""

    sample: Sample
    encoded: EncodedSample

    @property
    def n_subject(self) -> int:
        """Tokens of its subject."""
        first, end = self.encoded.subject_span or (0, 0)
        return end - first

    @property
    def followed(self) -> set[int]:
        """The tokens that are followed of its answers."""
        return {answer.ids[answer.n_lead] for answer in self.encoded.answers}

    @property
    def subject(self) -> Hashable:
        """Its subject, as text or as tokens."""
        if self.sample.subject is not None:
            return self.sample.subject.strip()
        return self.encoded.prompt_ids[slice(*(self.encoded.subject_span or (0, 0)))]

    @property
    def relation(self) -> Hashable:
        """What kind of fact it is; what it says beside its subject where nobody says so."""
        if self.sample.relation is not None:
            return self.sample.relation
        place = locate_subject(self.sample)
        if place is not None:
            return str(self.sample.prompt)[: place[0]], str(self.sample.prompt)[place[1] :]
        first, end = self.encoded.subject_span or (0, 0)
        return self.encoded.prompt_ids[:first], self.encoded.prompt_ids[end:]


def lend_contrasts(  # noqa: PLR0913 - settings by name
    samples: Sequence[Sample],
    tokenizer: Tokenizer | None,
    *,
    pool: Sequence[Sample] = (),
    seed: int = 0,
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
) -> tuple[Sample, ...]:
    """The samples, each without a contrast with the subject of another fact as one, where there is such a fact.

    The other fact is of the same relation, its subject has as many tokens, its answer begins with another token, and
    in the sample's own prompt nothing changes but the tokens of the subject. Of several the seed takes one.

    Laws: equal arguments give equal samples; a sample's contrast does not depend on the order of the others; samples
    that have a contrast, or no subject, come back as they are.

    Args:
        samples: The samples.
        tokenizer: The model's tokenizer; None if all samples are ids.
        pool: Further samples that lend their subjects.
        seed: Seed of the choice.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them.
        template_arguments: What else the template is given.

    Example:
        >>> facts = [
        ...     Sample(prompt_ids=(5, 1, 6), subject_span=(1, 2), answer_id=8),
        ...     Sample(prompt_ids=(5, 2, 6), subject_span=(1, 2), answer_id=9),
        ... ]
        >>> lend_contrasts(facts, None)[0].contrast_ids
        (5, 2, 6)
    """

    def encoding(given: Sequence[Sample]) -> list[_Fact | None]:
        settings: dict[str, Any] = {"chat": chat, "system": system, "template_arguments": template_arguments}
        return _encode(given, tokenizer, **settings)

    named = [i for i, sample in enumerate(samples) if _has_subject(sample)]
    if all(_has_contrast(samples[i]) for i in named):
        return tuple(samples)
    facts = encoding([samples[i] for i in named])
    asked = {
        i: fact for i, fact in zip(named, facts, strict=True) if fact is not None and not _has_contrast(samples[i])
    }
    by_kind: dict[Hashable, list[_Fact]] = {}
    for fact in (*facts, *encoding([sample for sample in pool if _has_subject(sample)])):
        if fact is not None:
            by_kind.setdefault((fact.relation, fact.n_subject), []).append(fact)
    queues = {i: _candidates(fact, by_kind[fact.relation, fact.n_subject], seed=seed) for i, fact in asked.items()}
    made = _find_fitting(asked, queues, encoding)
    return tuple(made.get(i, sample) for i, sample in enumerate(samples))


def _encode(given: Sequence[Sample], tokenizer: Tokenizer | None, **settings: Any) -> list[_Fact | None]:
    """Samples with their tokens; None for one that has no answer or no subject, or none that the tokenizer knows."""
    if not given:
        return []
    try:
        encoded = encode_samples(given, tokenizer, causal=True, **settings).samples
    except (AnswerError, TaskError):
        # One text that gives no token must not cost the others their contrast.
        one_by_one = [_encode([sample], tokenizer, **settings) for sample in given] if len(given) > 1 else [[None]]
        return [fact for facts in one_by_one for fact in facts]
    facts = [_Fact(sample=sample, encoded=one) for sample, one in zip(given, encoded, strict=True)]
    return [fact if fact.n_subject and fact.encoded.answers else None for fact in facts]


def pool_of(task: Task, samples: Sequence[Sample]) -> Sequence[Sample]:
    """What a task holds beside the samples that a limit leaves of it, as far as it shares a relation with them."""
    if task.recipe is None or task.recipe.options.limit is None:
        return ()
    whole = make_task(replace(task.recipe, options=replace(task.recipe.options, limit=None)))
    asked, relations = set(samples), {sample.relation for sample in samples}
    return [sample for sample in with_subjects(whole) if sample.relation in relations and sample not in asked]


def _has_subject(sample: Sample) -> bool:
    return sample.subject is not None or sample.subject_span is not None


def _has_contrast(sample: Sample) -> bool:
    return sample.contrast is not None or sample.contrast_ids is not None


def _candidates(fact: _Fact, lenders: Sequence[_Fact], *, seed: int) -> Iterator[_Fact]:
    """Facts whose subjects a fact may borrow, each subject once, in an order of the seed's."""
    distinct = {lender.subject: lender for lender in reversed(lenders) if not lender.followed & fact.followed}
    distinct.pop(fact.subject, None)

    def draw(lender: _Fact) -> bytes:
        text = repr((seed, fact.sample.prompt, fact.sample.prompt_ids, lender.subject, lender.sample.answer))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    return iter(sorted(distinct.values(), key=draw))


def _find_fitting(
    asked: Mapping[int, _Fact],
    queues: Mapping[int, Iterator[_Fact]],
    encoding: Callable[[Sequence[Sample]], list[_Fact | None]],
) -> dict[int, Sample]:
    """Each fact with the first subject that fits, tokenised in rounds: the next candidate of every fact without one."""
    made: dict[int, Sample] = {}
    while True:
        trying = {i: next(queue, None) for i, queue in queues.items() if i not in made}
        tried = [(i, _borrow(asked[i], lender)) for i, lender in trying.items() if lender is not None]
        if not tried:
            return made
        for (i, sample), fact in zip(tried, encoding([sample for _, sample in tried]), strict=True):
            if fact is not None and _fits(fact.encoded):
                made[i] = sample


def _borrow(fact: _Fact, lender: _Fact) -> Sample:
    """The sample with another's subject in its contrast prompt, and that one's answer as the contrast's."""
    sample, place = fact.sample, locate_subject(fact.sample)
    other = lender.encoded.answers[0]
    if place is None or lender.sample.subject is None:
        first, end = fact.encoded.subject_span or (0, 0)
        ids, borrowed = fact.encoded.prompt_ids, lender.encoded.prompt_ids[slice(*(lender.encoded.subject_span or ()))]
        return replace(
            sample, contrast_ids=ids[:first] + borrowed + ids[end:], contrast_answer_id=other.ids[other.n_lead]
        )
    prompt = str(sample.prompt)
    contrast = prompt[: place[0]] + lender.sample.subject.strip() + prompt[place[1] :]
    if lender.sample.answer is None:
        return replace(sample, contrast=contrast, contrast_answer_id=other.ids[other.n_lead])
    return replace(sample, contrast=contrast, contrast_answer=lender.sample.answer)


def _fits(encoded: EncodedSample) -> bool:
    """Whether a contrast prompt differs in the tokens of the subject alone, and its answer can be compared."""
    lead, contrast = encoded.answer_ids[: encoded.n_lead], encoded.contrast_answer
    if contrast is None or contrast.ids[: contrast.n_lead] != lead or not contrast.ids:
        return False
    ids, other = read_ids(encoded), encoded.contrast_ids or ()
    first, end = encoded.subject_span or (0, 0)
    return len(ids) == len(other) and ids != other and ids[:first] == other[:first] and ids[end:] == other[end:]
