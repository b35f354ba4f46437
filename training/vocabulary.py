"""The vocabulary of the miniatures, and their tokenizer."""

from __future__ import annotations

from functools import cache
from typing import Any

from training import lexicon
from training.relations import content_words


@cache
def token_ids() -> dict[str, int]:
    """Token ids by word: marks, symbols, numbers, letters, then all words, sorted."""
    verbs = [form for verb in lexicon.VERBS for form in verb]
    names = (*lexicon.DAYS, *lexicon.MONTHS)
    rest = sorted({*content_words(), *verbs, *names, *lexicon.ADVERBS, *lexicon.PREPOSITIONS, *lexicon.FRAMES})
    first = (lexicon.UNKNOWN, lexicon.BEGIN, *lexicon.SYMBOLS, *lexicon.NUMBERS, *lexicon.LETTERS)
    return {word: index for index, word in enumerate(dict.fromkeys((*first, *rest)))}


def make_tokenizer() -> Any:
    """A word-level tokenizer, as Transformers loads it: words, numbers and signs are tokens, spaces are not.

    Every text begins with the start token; what is outside the vocabulary becomes the unknown token.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(vocab=dict(token_ids()), unk_token=lexicon.UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"->|\n|\w+|[^\w\s]"), behavior="removed", invert=True)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{lexicon.BEGIN} $A",
        pair=f"{lexicon.BEGIN} $A $B",
        special_tokens=[(lexicon.BEGIN, token_ids()[lexicon.BEGIN])],
    )
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=inner,
        bos_token=lexicon.BEGIN,
        eos_token=lexicon.BEGIN,
        unk_token=lexicon.UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
