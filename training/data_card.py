"""The card of the corpus: what it is made of, counted and shown."""

from __future__ import annotations

import random
from collections import Counter

from training.corpus import OPEN_WEIGHT, draw_document
from training.documents import (
    DEFAULT_TEMPLATE,
    FACTS,
    FOREIGN_TEMPLATES,
    HELD_OUT_TEMPLATES,
    KINDS,
    LABELS,
    RECALL_FORMS,
    draw_template,
    is_held_out_sum,
)
from training.loop import Recipe
from training.relations import (
    KNOWN_RELATIONS,
    RULES,
    content_words,
    held_out_words,
    known_pairs,
    sequences,
)
from training.vocabulary import token_ids

_N_COUNTED = 2000
_TERMS = 21

_CARD = """\
# The miniatures' corpus

Documents from a generator, each step of training with documents of its own; nothing is stored. The words and their
pairs are those of LayerTracer's built-in tasks (antonyms and synonyms from WordNet 3.0, the rest written for
LayerTracer). This page is written by `python -m training`, which also trains the models.

## Vocabulary

{n_tokens:,} tokens: {n_words:,} words of the built-in tasks, and numbers, letters, names of days and months, verbs,
words of sentences and symbols. Word-level: spaces part words and are no tokens, a line's end is one. Every document
begins with `<s>`.

## Kinds of documents

| kind | share | tokens | of them determined by what precedes |
|---|---|---|---|
{kinds}

Shares and counts over {n_counted:,} documents of {length} tokens. Tokens that nothing determines weigh
{open_weight} in the loss.

## Relations

Few-shot prompts state one relation by examples; which one, only the examples say. Pairs are known by heart, rules hold
for any word; words for rules and recall are drawn as unequally as words of a language are used.

| relation | pairs in prompts | held out of prompts |
|---|---|---|
{relations}
| next | {n_sequences} members of sequences | |
| copy, first, last | {n_free:,} words | {n_held_out_words} words |

Held-out pairs stand only where their relation is named ("{fact}"), held-out words are never copied nor recalled in
training. Sums: {n_held_out_sums} of {n_sums} are held out.

One line in three is written {default}, the others with a separator, an end and sometimes a word before drawn for
each document, such as {templates}. Held out: {held_out_templates}; with new words:
{foreign_templates}. Lines that name their relation have its name before them: {label}. Forms of recall:
{recall}.

## Samples

{samples}
"""


def write_data_card() -> str:
    """The card as Markdown."""
    length = Recipe().n_tokens
    terms = [(a, b) for a in range(_TERMS) for b in range(_TERMS)]
    free = set(content_words()) - held_out_words()
    return _CARD.format(
        n_tokens=len(token_ids()),
        n_words=len(content_words()),
        kinds="\n".join(_count_kinds(length)),
        n_counted=_N_COUNTED,
        length=length,
        open_weight=OPEN_WEIGHT,
        relations="\n".join(_count_relations()),
        n_sequences=len(sequences()),
        n_free=len(free),
        n_held_out_words=len(held_out_words()),
        fact=FACTS["antonym"][0].format(x="hot", y="cold"),
        n_held_out_sums=sum(is_held_out_sum(a, b) for a, b in terms),
        n_sums=len(terms),
        default=_show(DEFAULT_TEMPLATE),
        templates=", ".join(_show(template) for template in _draw_templates(3)),
        foreign_templates=", ".join(_show(template) for template in FOREIGN_TEMPLATES),
        label=f"`{LABELS['antonym']} hot -> cold`",
        held_out_templates=", ".join(_show(template) for template in HELD_OUT_TEMPLATES),
        recall=", ".join(_show(" ".join(filter(None, ("red", a, "dog", b, "… red", c)))) for a, b, c in RECALL_FORMS),
        samples="\n".join(_show_samples(length)),
    )


def _count_kinds(length: int) -> list[str]:
    """A row for each kind, counted."""
    rng = random.Random("data card, kinds")
    rows = []
    for kind, (share, _) in KINDS.items():
        n = _N_COUNTED * share // 100
        counted = Counter(determined for _ in range(n) for _, determined in draw_document(rng, length, kind=kind))
        rows.append(f"| {kind} | {share} % | {counted.total():,} | {100 * counted[True] / counted.total():.0f} % |")
    return rows


def _count_relations() -> list[str]:
    splits = {relation: known_pairs(relation) for relation in KNOWN_RELATIONS}
    assert set(RULES) == {"copy", "next", "first", "last"}
    return [f"| {name} | {len(split.seen)} | {len(split.held_out)} |" for name, split in splits.items()]


def _show_samples(length: int) -> list[str]:
    rng = random.Random("data card, samples")
    rows = []
    for kind in KINDS:
        words = [word for word, _ in draw_document(rng, length, kind=kind)]
        rows.append(f"**{kind}**\n\n```text\n{' '.join(words).replace(' ' + chr(10) + ' ', chr(10)).rstrip()}\n```\n")
    return rows


def _draw_templates(n: int) -> list[str]:
    rng = random.Random("data card, templates")
    drawn = (draw_template(rng) for _ in range(100))
    return list(dict.fromkeys(template for template in drawn if template != DEFAULT_TEMPLATE))[:n]


def _show(template: str) -> str:
    return "`" + template.strip() + "`"
