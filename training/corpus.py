"""The corpus as batches of token ids, made while it is read: every step has documents of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from jaxtyping import Float32, Int64

from training import lexicon
from training.documents import KINDS, Token
from training.vocabulary import token_ids

OPEN_WEIGHT = 0.1
"""Weight in the loss of tokens that nothing before them determines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Documents of one length, each the beginning of a text.

    Attributes:
        ids: Token ids, the first the start token.
        weights: Weight of each token but the first as a target: 1 where what precedes determines it, else 0.1.
    """

    ids: Int64[np.ndarray, "document position"]
    weights: Float32[np.ndarray, "document target"]


def draw_batch(*, seed: int, step: int, n_documents: int, n_tokens: int) -> Batch:
    """The documents of one step of training.

    Law: equal arguments give equal batches, whatever was drawn before, so that training goes on where it stopped.

    Args:
        seed: Seed of the data.
        step: Step of the training.
        n_documents: Number of documents.
        n_tokens: Length of each document with its start token.
    """
    rng = random.Random(f"miniatures, seed {seed}, step {step}")
    documents = [draw_document(rng, n_tokens) for _ in range(n_documents)]
    known = token_ids()
    return Batch(
        ids=np.array([[known[word] for word, _ in document] for document in documents], dtype=np.int64),
        weights=np.array(
            [[1.0 if determined else OPEN_WEIGHT for _, determined in document[1:]] for document in documents],
            dtype=np.float32,
        ),
    )


def draw_document(rng: random.Random, n_tokens: int, *, kind: str | None = None) -> list[Token]:
    """One document, cut to its length.

    Args:
        rng: Source of randomness.
        n_tokens: Length with the start token.
        kind: A name out of `KINDS`; None to draw one.
    """
    if kind is None:
        kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    write = KINDS[kind][1]
    document = list(islice(chain([(lexicon.BEGIN, True)], write(rng, n_tokens)), n_tokens))
    if len(document) < n_tokens:  # a relation has fewer pairs than a long document has lines: more of another document
        document += draw_document(rng, n_tokens - len(document) + 1)[1:]
    return document
