"""What a sample must be before a model sees it."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer._errors import AnswerError, EmptyTaskError, PromptTooLongError, TaskError, UsageError
from layertracer._types import Sample, TargetTokens
from layertracer.tasks._tokens.answer_boundary import Cut
from layertracer.tasks._tokens.seam import NO_SPACE, find_seam

_MAX_NAMED = 10
"""So many samples are named in a message; of the others, the number."""

_MAX_SHOWN = 30
"""So many characters of a prompt are shown."""


_ALIKE = (
    "answers share their first token and differ behind it: following that token does not tell them apart. Follow all "
    "tokens with target_tokens='all'."
)


_SEVERAL = "answers have more than one token: the first is followed, or all with target_tokens='all'."


def name_samples(samples: Sequence[Sample], indices: Sequence[int]) -> str:
    """Samples by their index and the end of their text, for messages."""
    named = "; ".join(_name_sample(index, samples[index]) for index in indices[:_MAX_NAMED])
    more = len(indices) - _MAX_NAMED
    return named + (f"; and {more} more" if more > 0 else "")


def _name_sample(index: int, sample: Sample) -> str:
    """One sample by its index and the end of its text."""
    if sample.prompt is None:
        return f"Sample {index}"
    shown = sample.prompt if len(sample.prompt) <= _MAX_SHOWN else "…" + sample.prompt[-_MAX_SHOWN:]
    return f"Sample {index} ({shown!r})"


def check_samples(samples: Sequence[Sample]) -> None:
    """Refuse samples that no tokenizer can help.

    Raises:
        EmptyTaskError: If there is no sample.
        TaskError: If a prompt is empty, or a token id negative.
        AnswerError: If an answer is empty.
    """
    if not samples:
        raise EmptyTaskError("There is no sample to encode. Give at least one prompt.")
    empty = [i for i, sample in enumerate(samples) if not sample.prompt and not sample.prompt_ids]
    if empty:
        raise TaskError(f"{name_samples(samples, empty)}: the prompt is empty. A model needs at least one token.")
    negative = [i for i, sample in enumerate(samples) if min(_ids(sample), default=0) < 0]
    if negative:
        raise TaskError(f"{name_samples(samples, negative)}: a token id is negative. Token ids begin at 0.")
    unanswered = [i for i, sample in enumerate(samples) if "" in sample.all_answers]
    if unanswered:
        raise AnswerError(
            f"{name_samples(samples, unanswered)}: the answer is empty. Give its text, or leave the answer out and "
            f"follow the model's own top token with target='model'."
        )


def check_need_no_tokenizer(samples: Sequence[Sample]) -> None:
    """Refuse text where there is no tokenizer.

    Raises:
        UsageError: If a sample has text.
    """
    texts = [i for i, sample in enumerate(samples) if sample.prompt is not None or sample.answer is not None]
    if texts:
        raise UsageError(
            f"{name_samples(samples, texts)}: text needs a tokenizer, and there is none. Give a tokenizer, or "
            f"samples of token ids such as Sample(prompt_ids=(1, 5, 9), answer_id=7)."
        )


def _ids(sample: Sample) -> tuple[int, ...]:
    """Every token id that a sample gives."""
    return (*(sample.prompt_ids or ()), *(sample.decoder_ids or ()), *sample.all_answer_ids)


def check_answers(samples: Sequence[Sample], cuts: Sequence[Cut]) -> None:
    """Refuse prompts and answers of which no token is left.

    Raises:
        TaskError: If a prompt tokenises to nothing.
        AnswerError: If an answer tokenises to nothing, or the whole prompt merges with it.
    """
    swallowed = [i for i, cut in enumerate(cuts) if cut.is_merged and not cut.prompt_ids]
    if swallowed:
        raise AnswerError(
            f"{name_samples(samples, swallowed)}: the tokenizer merges the whole prompt with the answer, so that no "
            f"prompt is left to read. Put a space or more text between them."
        )
    empty = [i for i, cut in enumerate(cuts) if not cut.prompt_ids]
    if empty:
        raise TaskError(
            f"{name_samples(samples, empty)}: the prompt tokenises to nothing. Give text that the tokenizer knows."
        )
    unanswered = [i for i, cut in enumerate(cuts) if samples[i].answer is not None and not cut.answer_ids]
    if unanswered:
        answers = ", ".join(repr(samples[i].answer) for i in unanswered[:_MAX_NAMED])
        raise AnswerError(
            f"{name_samples(samples, unanswered)}: the answer {answers} tokenises to nothing. Give an answer that the "
            f"tokenizer knows, or leave it out and follow the model's own top token with target='model'."
        )


def check_lengths(samples: Sequence[Sample], cuts: Sequence[Cut], *, max_length: int | None) -> None:
    """Refuse prompts that are longer than the model's context.

    Raises:
        PromptTooLongError: The message lists every such prompt with its length.
    """
    if max_length is None:
        return
    lengths = [
        max(len(cut.prompt_ids), len(sample.decoder_ids or ())) for sample, cut in zip(samples, cuts, strict=True)
    ]
    too_long = [index for index, length in enumerate(lengths) if length > max_length]
    if too_long:
        listed = ", ".join(f"{index} ({lengths[index]})" for index in too_long)
        raise PromptTooLongError(
            f"{len(too_long)} of {len(samples)} prompts are longer than the model's context of {max_length} tokens: "
            f"sample {listed}. Shorten them, or give fewer demonstrations (n_shot)."
        )


def collect_warnings(
    samples: Sequence[Sample],
    cuts: Sequence[Cut],
    *,
    others: Sequence[Cut],
    chat: bool,
    unknown_id: int | None,
    followed: TargetTokens | None = "first",
) -> tuple[str, ...]:
    """One sentence for each thing that a user should know about the answers; `others` are those beside the first."""
    n = len(samples)
    several = sum(cut.is_long for cut in (*cuts, *others)) if followed == "first" else 0
    merged = sum(cut.is_cut_short for cut in cuts)
    glued = 0 if chat else sum(_is_glued(sample) for sample in samples)
    unknown = 0 if unknown_id is None else sum(unknown_id in cut.answer_ids for cut in cuts)
    unread = 0 if unknown_id is None else sum(unknown_id in cut.prompt_ids for cut in cuts)
    unspaced = 0 if chat else sum(find_seam(sample.prompt, sample.answer) == "mark" for sample in samples)
    sentences = (
        (_count_alike(cuts) if followed == "first" else 0, _ALIKE),
        (merged, "prompts end in a token that reaches into the answer: they were cut before it."),
        (glued, "answers begin right behind a letter of the prompt: begin them with a space if a new word is meant."),
        (unknown, "answers contain the tokenizer's unknown token: their probability means little."),
        (unread, "prompts contain the tokenizer's unknown token: the model does not see which word stands there."),
        (unspaced, NO_SPACE),
    )
    told = tuple(f"{count} of {n} {text}" for count, text in sentences if count)
    return (f"{several} of {n + len(others)} {_SEVERAL}", *told) if several else told


def _count_alike(cuts: Sequence[Cut]) -> int:
    """How many answers share their followed token though they differ behind it; 0 unless that is most of them."""
    answers: dict[int, list[tuple[int, ...]]] = {}
    for cut in cuts:
        if cut.followed_id is not None:
            answers.setdefault(cut.followed_id, []).append(cut.answer_ids[cut.lead.n_tokens :])
    most = max(answers.values(), key=len, default=[])
    return len(most) if len(set(most)) > 1 and 2 * len(most) > sum(map(len, answers.values())) else 0


def _is_glued(sample: Sample) -> bool:
    """Whether the answer continues the prompt's last word. Scripts without spaces are left alone."""
    return find_seam(sample.prompt, sample.answer) == "letter"
