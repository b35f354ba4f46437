"""A task for one model: without what its tokenizer does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from layertracer._errors import EmptyTaskError
from layertracer._types import Sample, TargetTokens
from layertracer.tasks._files.material import Material, Pair
from layertracer.tasks._make import LIMITED, make_task
from layertracer.tasks._recipe import Recipe
from layertracer.tasks._task import Task
from layertracer.tasks._template import Template
from layertracer.tasks._tokens.chat_template import ChatFormat
from layertracer.tasks._tokens.tokenize import cut_samples
from layertracer.tasks._tokens.tokenizer import Tokenizer, find_unknown_id, tokenize_texts

UNKNOWN_PAIR = "has a word outside the model's vocabulary"
"""Why a pair is neither shown nor asked about."""

UNKNOWN_ANSWER = "the answer is outside the model's vocabulary"
"""Why a finished prompt is not asked."""

UNKNOWN_WORD = "is outside the model's vocabulary"
"""Why a word is not drawn."""


def fit_task(
    task: Task,
    tokenizer: Tokenizer | None,
    *,
    chat: ChatFormat | None = None,
    has_encoder: bool = False,
    followed: TargetTokens | None = "first",
) -> Task:
    """The task without what a model's tokenizer does not know.

    A pair whose input or output, as it stands in the template, holds the unknown token is left out before
    demonstrations and queries are chosen, so that `limit` prompts come out where there are enough pairs. Generated
    prompts are made of known words. A finished
    prompt is left out where the part of its answer that is followed is unknown; one that has an unknown word itself
    stays. What was left out is counted in the specification, under "n_left_out".

    Laws: a tokenizer that knows all words, or has no unknown token, gives back the task itself; fitting a second time
    changes nothing; no demonstration and no query holds an unknown word; the first n samples do not depend on
    `limit`, and the order of a file's pairs changes nothing.

    Args:
        task: From `load_task`. A task put together by hand comes back as it is.
        tokenizer: The model's tokenizer; None where it has none.
        chat: How finished prompts are put into the tokenizer's chat template; None where they are not.
        has_encoder: Whether the model's encoder reads the prompts.
        followed: Tokens of a finished prompt's answer that must be known: its first, all, or, with None, not any.

    Returns:
        The fitted task, with at least one sample.

    Raises:
        EmptyTaskError: If too few pairs or no prompt are left; the message has an example.
        UsageError: If `chat` has no template.

    Example:
        >>> from layertracer.tasks import load_task
        >>> task = load_task("antonym", n_shot=1, limit=2)
        >>> fit_task(task, None) is task
        True
    """
    recipe, unknown_id = task.recipe, find_unknown_id(tokenizer)
    if recipe is None or tokenizer is None or unknown_id is None:
        return task
    if recipe.material.words is not None:
        return _fit_words(task, recipe, recipe.material.words, tokenizer, unknown_id=unknown_id)
    if recipe.material.samples is None:
        return _fit_pairs(task, recipe, tokenizer, unknown_id=unknown_id)
    if followed is None:
        return task

    def is_known(samples: Sequence[Sample]) -> list[bool]:
        cuts = cut_samples(samples, tokenizer, chat=chat, has_encoder=has_encoder).cuts
        ends = [cut.lead.n_tokens + 1 if followed == "first" else None for cut in cuts]
        return [unknown_id not in cut.answer_ids[:end] for cut, end in zip(cuts, ends, strict=True)]

    return _fit_samples(task, recipe, is_known)


def explain_left_out(task: Task) -> tuple[str, ...]:
    """One sentence for each reason for which `fit_task` left something out, or for what was missing in the source."""
    if task.recipe is None:
        return ()
    material = task.recipe.material
    kept: Sequence[object] = material.samples or material.words or material.pairs
    sentences = {
        UNKNOWN_PAIR: "pairs have a word outside the model's vocabulary: they were left out, as demonstrations too.",
        UNKNOWN_ANSWER: "answers are outside the model's vocabulary: their prompts were left out.",
        UNKNOWN_WORD: "words are outside the model's vocabulary: prompts are made of the others.",
    }
    counts = [(material.left_out.get(reason, 0), text) for reason, text in sentences.items()]
    unread = (material.description,) if material.n_missing else ()
    told = (f"{sentence}." for sentence in (*unread, *material.notes))
    left_out = [f"{count} of {len(kept) + count} {text}" for count, text in counts if count]
    # Before a model was known, the limit was told of all pairs: here is the count that holds.
    limited = [f"Of what is left, {note}." for note in task.notes if LIMITED in note] if left_out else []
    return (*told, *left_out, *limited)


def _fit_pairs(task: Task, recipe: Recipe, tokenizer: Tokenizer, *, unknown_id: int) -> Task:
    """The task of the pairs that are known."""
    pairs = recipe.material.pairs
    by_template = [
        _find_known(pairs, Template.parse(text), tokenizer, unknown_id=unknown_id) for text in recipe.templates
    ]
    are_known = [all(known) for known in zip(*by_template, strict=True)]
    unknown = [pair for pair, is_known in zip(pairs, are_known, strict=True) if not is_known]
    if not unknown:
        return task
    known = tuple(pair for pair, is_known in zip(pairs, are_known, strict=True) if is_known)
    word = _find_example(unknown[0], tokenizer, unknown_id=unknown_id)
    what = f"pairs of {task.name!r} have a word outside the model's vocabulary, such as {word!r}"
    if not known:
        raise EmptyTaskError(
            f"No sample is left: all {len(pairs)} {what}. Give pairs of words that the model's tokenizer knows."
        )
    material = _leave_out(replace(recipe.material, pairs=known), UNKNOWN_PAIR, len(unknown))
    try:
        return make_task(replace(recipe, material=material))
    except EmptyTaskError as error:
        raise EmptyTaskError(f"{len(unknown)} of {len(pairs)} {what}, and are left out. {error}") from None


def _fit_words(task: Task, recipe: Recipe, words: Sequence[str], tokenizer: Tokenizer, *, unknown_id: int) -> Task:
    """The task generated of the words that are known."""
    every = tokenize_texts(tokenizer, [f" {word}" for word in words], add_special_tokens=False)
    known = tuple(word for word, ids in zip(words, every, strict=True) if unknown_id not in ids)
    n_unknown = len(words) - len(known)
    if not n_unknown:
        return task
    material = _leave_out(replace(recipe.material, words=known), UNKNOWN_WORD, n_unknown)
    try:
        return make_task(replace(recipe, material=material))
    except EmptyTaskError as error:
        what = f"{n_unknown} of {len(words)} words of {task.name!r} are outside the model's vocabulary"
        raise EmptyTaskError(f"{what}. {error}") from None


def _find_known(pairs: Sequence[Pair], template: Template, tokenizer: Tokenizer, *, unknown_id: int) -> list[bool]:
    """Whether both words of each pair are known as they stand in the template.

    Where the template by itself holds something unknown, its words are looked at by themselves.
    """

    def know(texts: list[str]) -> list[bool]:
        return [unknown_id not in ids for ids in tokenize_texts(tokenizer, texts, add_special_tokens=False)]

    if all(know([template.render_demonstration(Pair(input="", output=""))])):
        return know([template.render_demonstration(pair) for pair in pairs])
    inputs, outputs = know([pair.input for pair in pairs]), know([template.gap + pair.output for pair in pairs])
    return [before and after for before, after in zip(inputs, outputs, strict=True)]


def _find_example(pair: Pair, tokenizer: Tokenizer, *, unknown_id: int) -> str:
    """The word of a pair that is unknown; both where it cannot be told."""
    words = [*pair.input.split(), *pair.output.split()]
    every = tokenize_texts(tokenizer, words, add_special_tokens=False)
    unknown = [word for word, ids in zip(words, every, strict=True) if unknown_id in ids]
    return unknown[0] if unknown else f"{pair.input} {pair.output}"


def _fit_samples(task: Task, recipe: Recipe, is_known: Callable[[Sequence[Sample]], list[bool]]) -> Task:
    """The task of the finished prompts whose answers are known.

    They are looked at in their order until there are `limit` of them: what comes after that is not counted.
    """
    samples = recipe.material.samples or ()
    n_wanted = recipe.options.limit or len(samples)
    known: list[Sample] = []
    unknown: list[Sample] = []
    for start in range(0, len(samples), n_wanted):
        chunk = samples[start : start + n_wanted]
        for sample, knows in zip(chunk, is_known(chunk), strict=True):
            if len(known) < n_wanted:
                (known if knows else unknown).append(sample)
        if len(known) == n_wanted:
            break
    if not unknown:
        return task
    if not known:
        raise EmptyTaskError(
            f"No sample is left: the answers of all {len(samples)} prompts of {task.name!r} are outside the model's "
            f"vocabulary, such as {unknown[0].answer!r}. Give answers that the model's tokenizer knows, or follow the "
            f"model's own top token with target='model'."
        )
    material = _leave_out(replace(recipe.material, samples=tuple(known)), UNKNOWN_ANSWER, len(unknown))
    return make_task(replace(recipe, material=material))


def _leave_out(material: Material, reason: str, count: int) -> Material:
    """The material with so many more left out."""
    return replace(material, left_out=dict(Counter(material.left_out) + Counter({reason: count})))
