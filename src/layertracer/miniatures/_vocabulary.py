"""The vocabulary of the miniatures, and their tokenizer."""

from __future__ import annotations

from functools import cache
from typing import Any

from layertracer.miniatures import _words
from layertracer.miniatures._relations import content_words


@cache
def token_ids() -> dict[str, int]:
    """Token ids by word: marks, symbols, numbers, letters, then all words, sorted."""
    verbs = [form for verb in _words.VERBS for form in verb]
    names = (*_words.DAYS, *_words.MONTHS)
    rest = sorted({*content_words(), *verbs, *names, *_words.ADVERBS, *_words.PREPOSITIONS, *_words.FRAMES})
    first = (_words.UNKNOWN, _words.BEGIN, *_words.SYMBOLS, *_words.NUMBERS, *_words.LETTERS)
    return {word: index for index, word in enumerate(dict.fromkeys((*first, *rest)))}


def make_tokenizer() -> Any:
    """A word-level tokenizer, as Transformers loads it: words, numbers and signs are tokens, spaces are not.

    Every text begins with the start token; what is outside the vocabulary becomes the unknown token.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(vocab=dict(token_ids()), unk_token=_words.UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"->|\n|\w+|[^\w\s]"), behavior="removed", invert=True)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{_words.BEGIN} $A",
        pair=f"{_words.BEGIN} $A $B",
        special_tokens=[(_words.BEGIN, token_ids()[_words.BEGIN])],
    )
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=inner,
        bos_token=_words.BEGIN,
        eos_token=_words.BEGIN,
        unk_token=_words.UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
