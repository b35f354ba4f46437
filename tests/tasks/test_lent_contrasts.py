"""Contrasts made of other facts: of the same relation, as long, with another answer, and nothing else changed."""

from __future__ import annotations

from layertracer._types import Sample
from layertracer.tasks import encode_samples, lend_contrasts, load_task, pool_of, read_ids, with_subjects

from tests.support.tokenizers import make_bpe


def _fact(subject: str, answer: str, **fields: str) -> Sample:
    return Sample(prompt=f"the {subject} is", answer=answer, subject=subject, **fields)


def test_only_a_fact_that_fits_lends_its_subject() -> None:
    """Another length, another relation, the same answer, or the same subject lend nothing."""
    asked = _fact("wide", " cold", relation="a")
    others = {
        "the same subject": _fact("wide", " hot", relation="a"),
        "the same answer": _fact("narrow", " cold", relation="a"),
        "another relation": _fact("narrow", " hot", relation="b"),
        "other length": _fact("the opposite of", " hot", relation="a"),
        "no answer": Sample(prompt="the narrow is", subject="narrow", relation="a"),
    }
    for other in others.values():
        assert lend_contrasts([asked], make_bpe(), pool=[other])[0].contrast is None
    fitting = _fact("narrow", " hot", relation="a")
    lent = lend_contrasts([asked], make_bpe(), pool=[*others.values(), fitting])[0]
    assert (lent.contrast, lent.contrast_answer) == ("the narrow is", " hot")


def test_what_is_said_beside_the_subject_stands_for_a_relation() -> None:
    """Without a named relation, prompts of one wording are of one kind."""
    asked, same = _fact("wide", " cold"), _fact("narrow", " hot")
    other = Sample(prompt="big narrow", answer=" hot", subject="narrow")
    assert lend_contrasts([asked, same], make_bpe())[0].contrast == "the narrow is"
    assert lend_contrasts([asked, other], make_bpe())[0].contrast is None


def test_in_the_prompt_nothing_but_the_subject_changes() -> None:
    """Of many facts, the tokens of prompt and contrast differ inside the subject's span alone; the seed decides."""
    task = load_task("antonym", n_shot=2, limit=12)
    samples, tokenizer = with_subjects(task), make_bpe()
    lent = lend_contrasts(samples, tokenizer, pool=pool_of(task, samples), seed=1)
    made = [sample for sample in lent if sample.contrast is not None]
    assert len(made) > 6
    for one in encode_samples(made, tokenizer, causal=True).samples:
        first, end = one.subject_span or (0, 0)
        ids, other = read_ids(one), one.contrast_ids or ()
        assert (ids[:first], ids[end:], len(ids)) == (other[:first], other[end:], len(other))
        assert ids != other
        assert one.contrast_answer is not None
        other_followed = one.contrast_answer.ids[one.contrast_answer.n_lead]
        assert other_followed != one.answer_ids[one.n_lead]
    again = lend_contrasts(samples[::-1], tokenizer, pool=pool_of(task, samples), seed=1)
    assert again[::-1] == lent
    assert lend_contrasts(samples, tokenizer, pool=pool_of(task, samples), seed=2) != lent


def test_samples_with_a_contrast_or_without_a_subject_are_left_alone() -> None:
    """What a user gave is not replaced, and what has no subject gets none."""
    given = [
        _fact("wide", " cold", contrast="the little is"),
        Sample(prompt="big", answer=" cold"),
        _fact("narrow", " little"),
    ]
    assert lend_contrasts(given[:2], make_bpe()) == tuple(given[:2])
    assert lend_contrasts(given, make_bpe())[2].contrast == "the wide is"
