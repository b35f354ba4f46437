"""The corpus: what it shows, and what it holds out."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from layertracer._errors import UnknownNameError
from layertracer.tasks import builtin_pairs

from training import draw_batch, draw_document, find_miniature, make_tokenizer, write_data_card
from training.documents import (
    DEFAULT_TEMPLATE,
    FOREIGN_TEMPLATES,
    HELD_OUT_TEMPLATES,
    KINDS,
    draw_template,
    is_held_out_sum,
)
from training.relations import KNOWN_RELATIONS, held_out_words, known_pairs
from training.vocabulary import token_ids

LENGTH = 48


def _documents(kind: str, n: int = 300) -> Iterator[list[str]]:
    rng = random.Random(f"tests of {kind}")
    for _ in range(n):
        yield [word for word, _ in draw_document(rng, LENGTH, kind=kind)]


def test_equal_steps_are_equal() -> None:
    """The documents of a step depend on seed and step alone."""
    first = draw_batch(seed=3, step=7, n_documents=4, n_tokens=20)
    draw_batch(seed=3, step=8, n_documents=4, n_tokens=20)
    again = draw_batch(seed=3, step=7, n_documents=4, n_tokens=20)
    other = draw_batch(seed=4, step=7, n_documents=4, n_tokens=20)
    assert np.array_equal(first.ids, again.ids)
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.ids, other.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_whole(kind: str) -> None:
    """Documents have the length asked for, begin with the start token, and hold known words only."""
    for document in _documents(kind, n=50):
        assert len(document) == LENGTH
        assert document[0] == "<s>"
        assert "<s>" not in document[1:]
        assert set(document) <= set(token_ids())


def test_vocabulary_is_of_one_to_two_thousand_words() -> None:
    """The vocabulary has between one and two thousand words, each with an id of its own."""
    ids = token_ids()
    assert 1000 <= len(ids) <= 2000
    assert sorted(ids.values()) == list(range(len(ids)))


@pytest.mark.parametrize("relation", KNOWN_RELATIONS)
def test_split_is_the_task(relation: str) -> None:
    """Seen and held-out pairs are the built-in task's, each on one side, both directions of a pair together."""
    split = known_pairs(relation)
    seen, held_out = ({(line[0][0], line[1]) for line in side} for side in (split.seen, split.held_out))
    assert not {frozenset(pair) for pair in seen} & {frozenset(pair) for pair in held_out}
    assert seen | held_out <= set(builtin_pairs(relation))
    assert 0.05 < len(held_out) / len(seen) < 0.15


def test_held_out_pairs_stand_in_no_prompt() -> None:
    """No few-shot document has a held-out pair in the built-in tasks' template."""
    held_out = {(line[0][0], line[1]) for relation in KNOWN_RELATIONS for line in known_pairs(relation).held_out}
    shown = set()
    for document in _documents("few-shot", n=1500):
        shown |= {(a, b) for a, arrow, b in zip(document, document[1:], document[2:], strict=False) if arrow == "->"}
    assert len(shown) > 1000
    assert not shown & held_out


def test_held_out_pairs_are_stated() -> None:
    """Sentences and labelled lines state held-out pairs, so that they can be known."""
    held_out = {line[1] for line in known_pairs("country-capital").held_out}
    assert held_out <= {word for document in _documents("facts", n=2000) for word in document}


@pytest.mark.parametrize("kind", ["recall", "repetition"])
def test_held_out_words_are_not_copied(kind: str) -> None:
    """Training never copies or recalls a held-out word."""
    assert not held_out_words() & {word for document in _documents(kind) for word in document}


def test_held_out_templates_are_not_drawn() -> None:
    """Training never writes a line in a held-out template, and draws many others."""
    rng = random.Random(0)
    drawn = [draw_template(rng) for _ in range(5000)]
    assert not set(drawn) & {*HELD_OUT_TEMPLATES, *FOREIGN_TEMPLATES}
    assert len(set(drawn)) > 100
    assert 0.3 < drawn.count(DEFAULT_TEMPLATE) / len(drawn) < 0.4


def test_held_out_sums_are_not_shown() -> None:
    """Training never adds a held-out pair of numbers."""
    for document in _documents("arithmetic"):
        for a, sign, b in zip(document, document[1:], document[2:], strict=False):
            assert sign != "+" or not is_held_out_sum(int(a), int(b))


def test_sums_are_right() -> None:
    """Every finished sum and difference is right."""
    for document in _documents("arithmetic", n=50):
        for a, sign, b, equal, c in zip(*(document[i:] for i in range(5)), strict=False):
            if equal == "=":
                assert int(c) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_tokenizer_reads_documents() -> None:
    """A document as text gives the ids that training sees, and its ids give text that reads the same."""
    tokenizer = make_tokenizer()
    for document in _documents("few-shot", n=20):
        ids = [token_ids()[word] for word in document]
        text = " ".join(document[1:])
        assert tokenizer(text).input_ids == ids
        assert tokenizer(text.replace(" \n ", "\n").replace(" .", ".")).input_ids == ids
        assert tokenizer(tokenizer.decode(ids[1:])).input_ids == ids


def test_tokenizer_knows_what_it_does_not_know() -> None:
    """A word outside the vocabulary is the unknown token."""
    tokenizer = make_tokenizer()
    assert tokenizer("hot xylophone").input_ids[2] == tokenizer.unk_token_id


def test_data_card_counts() -> None:
    """The data card states the corpus as it is."""
    card = write_data_card()
    assert f"{len(token_ids()):,} tokens" in card
    for relation in KNOWN_RELATIONS:
        split = known_pairs(relation)
        assert f"| {relation} | {len(split.seen)} | {len(split.held_out)} |" in card


def test_unknown_miniature_is_named() -> None:
    """A name that is of no miniature is refused with near matches."""
    with pytest.raises(UnknownNameError, match=r"Unknown miniature 'hybird'\. Did you mean 'hybrid'"):
        find_miniature("hybird")
