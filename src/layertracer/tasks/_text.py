"""Next-token prompts cut out of plain text."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

from layertracer._errors import EmptyTaskError
from layertracer._types import Sample
from layertracer.tasks._files.content import decode_text, read_content
from layertracer.tasks._files.material import Material
from layertracer.tasks._files.tally import count

_CHUNK = re.compile(r"\S+")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def read_text(path: Path, *, prompt_words: int, seed: int) -> Material:
    """Prompts of `prompt_words` words, each followed by the text's next word as its answer.

    The text is cut into pieces that do not overlap, and the seed puts them into order. A piece is left out, and
    counted, where the next word begins a new line or is no word (punctuation, markup).

    Raises:
        EmptyTaskError: If the text is too short, or no piece is left.
    """
    content = read_content(path)
    text, notes = decode_text(content)
    chunks = list(_CHUNK.finditer(text))
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    for start in range(0, len(chunks) - prompt_words, prompt_words + 1):
        last, following = chunks[start + prompt_words - 1], chunks[start + prompt_words]
        word = _WORD.match(following.group())
        if text[last.end() : following.start()] != " ":
            left_out["the next word begins a new line"] += 1
        elif word is None:
            left_out["the next token is no word"] += 1
        else:
            samples.append(Sample(prompt=text[chunks[start].start() : last.end()], answer=" " + word.group()))
    if not samples:
        raise EmptyTaskError(
            f"{path} gives no prompt: it has {len(chunks)} words, and a prompt of {prompt_words} words with the word "
            f"after it needs {prompt_words + 1}; {left_out.total()} pieces were left out because of what follows "
            f"them. Give a longer text or fewer prompt_words."
        )
    random.Random(seed).shuffle(samples)
    reasons = "".join(f"; {count(n, 'piece')} left out: {reason}" for reason, n in left_out.items())
    description = f"cut {count(len(samples), 'prompt')} of {prompt_words} words out of {path.name}{reasons}"
    return Material(
        sha256=content.sha256,
        samples=tuple(samples),
        left_out=dict(left_out),
        description=description,
        notes=notes,
    )
