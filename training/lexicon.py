"""The words of the miniatures beside those of the built-in tasks."""

from __future__ import annotations

import string

BEGIN = "<s>"
"""Begins every document."""
UNKNOWN = "<unk>"
"""Stands for every word outside the vocabulary; no document has it."""
NEWLINE = "\n"

SYMBOLS = ("->", ":", "=", ",", ";", ".", "?", "|", "+", "-", NEWLINE)

LARGEST_NUMBER = 40
NUMBERS = tuple(str(number) for number in range(LARGEST_NUMBER + 1))
LETTERS = tuple(string.ascii_lowercase)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

VERBS = (
    ("sings", "sing"), ("runs", "run"), ("waits", "wait"), ("sleeps", "sleep"), ("falls", "fall"), ("moves", "move"),
    ("works", "work"), ("stays", "stay"), ("smiles", "smile"), ("turns", "turn"), ("shines", "shine"),
    ("returns", "return"), ("breaks", "break"), ("stops", "stop"), ("remains", "remain"), ("appears", "appear"),
)  # fmt: skip
"""Verbs in the singular and in the plural."""

ADVERBS = ("today", "again", "there", "often", "slowly", "quickly", "alone", "together")
PREPOSITIONS = ("near", "behind", "beside", "above", "below")

FRAMES = (
    "the", "of", "is", "a", "for", "opposite", "means", "same", "as", "capital", "city", "has", "past", "form",
    "plural", "word", "one", "many", "but", "two", "yesterday", "they", "becomes", "in", "out", "Q", "A", "and",
)  # fmt: skip
"""Words of templates and sentences."""
