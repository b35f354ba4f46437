"""A space that is missing between prompt and answer is warned of; where none belongs, nothing is said."""

from __future__ import annotations

import pytest

from layertracer._types import Sample
from layertracer.tasks import encode_samples
from layertracer.tasks._tokens.seam import Seam, find_seam

from tests.support.tokenizers import make_bpe

SEAMS: list[tuple[str, str, Seam | None]] = [
    ("Q: capital of France?\nA:", "Paris", "mark"),
    ("hot ->", "cold", "mark"),
    ("hot =>", "cold", "mark"),
    ("hot →", "cold", "mark"),
    ("2 + 2 =", "4", "mark"),
    ('The opposite of "hot"', "is", "mark"),
    ("Is it so?", "Yes", "mark"),
    ("(see below)", "Then", "mark"),
    ("Столица Франции:", "Париж", "mark"),
    ("wor", "d", "letter"),
    ("сло", "во", "letter"),
    ("hot:cold\nbig:", "small", None),
    ("hot→cold\nbig→", "small", None),
    ("Q: x?\nA: y\nQ: z?\nA:", "w", "mark"),
    ("at 12:30 he said:", "no", "mark"),
    ("A:", " Paris", None),
    ("A: ", "Paris", None),
    ("A:\n", "Paris", None),
    ("A:", "\nParis", None),
    ("A:", '"Paris"', None),
    ('He said "', "Yes", None),
    ("(", "a", None),
    ("«", "oui", None),
    ("It costs $", "5", None),
    ("3.", "14", None),
    ("12:", "30", None),
    ("x=", "1", None),
    ("<answer>", "Paris", None),
    ("A:", "", None),
    ("答：", "巴黎", None),
    ("首都是:", "Paris", None),
    ("法国的首都是", "巴黎", None),
    ("フランスの首都は", "パリ", None),
    ("เมืองหลวง:", "ปารีส", None),
]


@pytest.mark.parametrize(("prompt", "answer", "seam"), SEAMS)
def test_seams(prompt: str, answer: str, seam: Seam | None) -> None:
    """Behind a letter, a colon, an arrow and the like words have a space; behind openings, digits and in scripts
    without spaces they have none.
    """
    assert find_seam(prompt, answer) == seam


def test_warning_names_the_option() -> None:
    """The warning counts the answers and says how to add the space; with it, and in a chat, nothing is said."""
    glued, spaced = Sample(prompt="hot ->", answer="cold"), Sample(prompt="hot ->", answer=" cold")
    (warning,) = encode_samples([glued, spaced, spaced], make_bpe()).warnings[-1:]
    assert warning.startswith("1 of 3 answers begin right behind a colon, an arrow or the like")
    assert "--answer-prefix" in warning
    assert not any("right behind" in text for text in encode_samples([spaced], make_bpe()).warnings)
