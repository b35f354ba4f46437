"""Pre-tokenizers that .gguf files name: how a text is cut into words before merges are applied within each of them.

A file says a name alone ("tokenizer.ggml.pre"); what stands behind it is known to the reader. The regular expressions
are facts of the tokenizers that models were trained with, as their own files and llama.cpp, which gave the names, state
them; where the two write one in different ways, the tokenizer's own is kept. Each expression cuts what those before it
left, into what it matches and what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DIGIT = r"\p{N}"
_DIGITS = r"\p{N}+"
_UP_TO_THREE_DIGITS = r"\p{N}{1,3}"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WHITESPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_WHITESPACE}"
"""A word with what may precede it, numbers, punctuation with the line breaks after it, and white space."""

_GPT4 = rf"{_CONTRACTIONS}|{_WORDS % _UP_TO_THREE_DIGITS}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS % _DIGIT}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_WHITESPACE}"
)
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_WHITESPACE}"
_EXAONE_MOE = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_JAIS2 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)"
    r"|\s{1,2}(?!\S)|\s{1}"
)


def _cased_words(*, numbers: str, ending: str = "", also: str = "", before: str = "", slash: str = "/") -> str:
    """Words that end where a capital letter follows a small one.

    Args:
        numbers: What is a number.
        ending: What may follow a word directly.
        also: Narrows the letters.
        before: What is tried first.
        slash: What line breaks after punctuation may be mixed with.
    """
    upper, lower = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{also}]", rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{also}]"
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{before}{start}{upper}*{lower}+{ending}|{start}{upper}+{lower}*{ending}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{slash}]*|{_WHITESPACE}"
    )


_TEKKEN = _cased_words(numbers=_DIGIT)
_GPT4O = _cased_words(numbers=_UP_TO_THREE_DIGITS, ending=f"{_CONTRACTIONS}?")
_KIMI = _cased_words(
    numbers=_UP_TO_THREE_DIGITS,
    ending=f"{_CONTRACTIONS}?",
    also=r"&&[^\p{Han}]",
    before=r"[\p{Han}]+|",
    slash="",
)
_BLOOM = r" ?[^(\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+"
_CJK = r"[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"
_DEEPSEEK3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_WHITESPACE}"
)
_OLD_CJK = r"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"
_YOUTU_SCRIPTS = (
    r"[\uAC00-\uD7A3\u3131-\u318E]+"
    r"|[\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B\uFF0C\u3001-\u303F\uFE30-\uFE4F]+"
    rf"|[\u3105-\u312F]+|{_CJK}"
)
_ASIAN_SCRIPTS = (
    r"[\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u3040-\u309F\u30A0-\u30FF\uFF65-\uFF9F\u2F00-\u2FDF\u0E40-\u0E7F"
    r"\u0E80-\u0EFF\u1780-\u17FF\u1000-\u109F\uAA60-\uAA7F\uA9E0-\uA9FF\uAC00-\uD7AF\u1100-\u11FF]+"
)
_CASED_LETTERS = (
    r"[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373"
    r"\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F"
    r"\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77"
    r"\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-"
    r"\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC"
    r"\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-"
    r"\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3"
    r"\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17"
    r"\uFF21-\uFF3A\uFF41-\uFF5A\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}"
    r"\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]"
)
"""Letters of scripts with capitals, as one Unicode version had them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTokenizer:
    """How one kind of tokenizer cuts texts.

    Attributes:
        expressions: Regular expressions, one after another.
        takes_whole_words: Whether a word that is in the vocabulary is one token, whatever the merges make of it.
        adds_bos: Whether prompts begin with the beginning-of-text token where the file does not say.
    """

    expressions: tuple[str, ...]
    takes_whole_words: bool = False
    adds_bos: bool = False


_GPT2_LIKE = PreTokenizer(expressions=(_GPT2,))
_DIGITS_FIRST = PreTokenizer(expressions=(_DIGIT, _GPT2))
_LLAMA3 = PreTokenizer(expressions=(_GPT4,), takes_whole_words=True, adds_bos=True)
_QWEN = PreTokenizer(expressions=(_QWEN2,))
_DEEPSEEK3 = PreTokenizer(expressions=(_UP_TO_THREE_DIGITS, _CJK, _DEEPSEEK3_WORDS))
_THREES = (_DIGITS, r"(?=(\p{N}{3})+(?!\p{N}))")  # groups of three digits, counted from the right

DEFAULT = PreTokenizer(expressions=(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, _DIGITS, r"[0-9][0-9][0-9]"))
"""What llama.cpp reads with where a file names none, or "default": its own mixture, no model's."""

_BY_NAMES: Mapping[tuple[str, ...], PreTokenizer] = {
    ("default",): DEFAULT,
    ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat"): _GPT2_LIKE,
    ("modern-bert", "mellum", "a.x-4.0", "exaone4", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"): _GPT2_LIKE,
    ("jina-v1-en", "jina-v2-code", "roberta-bpe"): _GPT2_LIKE,
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"): _DIGITS_FIRST,
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"): _LLAMA3,
    ("jina-v5-nano",): _LLAMA3,
    ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"): PreTokenizer(expressions=(_GPT4,)),
    ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open"): _QWEN,
    ("grok-2",): _QWEN,
    ("qwen35",): PreTokenizer(expressions=(_QWEN35,)),
    ("laguna",): PreTokenizer(expressions=(r"[^\n]+|[\n]+", _QWEN2)),
    ("ufakzeka",): PreTokenizer(expressions=(_WORDS % _DIGIT,)),
    ("minicpm5",): PreTokenizer(
        expressions=(_UP_TO_THREE_DIGITS, rf"{_CONTRACTIONS}|{_WORDS % _DIGITS}"), takes_whole_words=True
    ),
    ("bailingmoe", "bailingmoe2", "llada-moe"): PreTokenizer(expressions=(_BAILING,)),
    ("seed-coder",): PreTokenizer(expressions=(_SEED,)),
    ("exaone-moe",): PreTokenizer(expressions=(_EXAONE_MOE,)),
    ("jais-2",): PreTokenizer(expressions=(_JAIS2,)),
    ("tekken",): PreTokenizer(expressions=(_TEKKEN,), takes_whole_words=True, adds_bos=True),
    ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"): PreTokenizer(expressions=(_GPT4O,)),
    ("granite-embed-multi-97m",): PreTokenizer(expressions=(_GPT4O,), takes_whole_words=True),
    ("tiny_aya", "cohere2moe"): PreTokenizer(expressions=(r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O)),
    ("youtu",): PreTokenizer(
        expressions=(_YOUTU_SCRIPTS, _cased_words(numbers=_DIGIT, ending=f"{_CONTRACTIONS}?")), takes_whole_words=True
    ),
    ("kimi-k2",): PreTokenizer(expressions=(_KIMI,)),
    ("superbpe",): PreTokenizer(expressions=(_DIGITS, r"(?=(\d{3})+(?!\d))")),
    ("afmoe",): PreTokenizer(expressions=(*_THREES, _ASIAN_SCRIPTS, _DEEPSEEK3_WORDS)),
    ("poro-chat", "bloom", "gpt3-finnish"): PreTokenizer(expressions=(_BLOOM,)),
    ("viking",): PreTokenizer(expressions=(_BLOOM, _DIGIT)),
    ("falcon",): PreTokenizer(expressions=(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")),
    ("deepseek-llm",): PreTokenizer(
        expressions=(
            r"[\r\n]",
            rf"\s?{_CASED_LETTERS}+",
            r"\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
            r"\s+$",
            _OLD_CJK,
            _DIGITS,
        )
    ),
    ("deepseek-coder",): PreTokenizer(expressions=(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _OLD_CJK, _DIGIT)),
    ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"): _DEEPSEEK3,
    ("chameleon",): PreTokenizer(
        expressions=(
            r"<sentinel:[0-9]+>",
            r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            _DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            _GPT2,
        ),
        adds_bos=True,
    ),
}

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    name: pre_tokenizer for names, pre_tokenizer in _BY_NAMES.items() for name in names
}
"""By the name in a file."""


def build(pre_tokenizer: PreTokenizer | None) -> Any:
    """The pre-tokenizer of the tokenizers library, down to the bytes; GPT-2's for None."""
    from tokenizers import Regex, pre_tokenizers

    if pre_tokenizer is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in pre_tokenizer.expressions]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
