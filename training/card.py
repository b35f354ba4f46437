"""The card of a miniature: what it is, how it was made, what it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.questions import NOVELTIES

_N_POINTS = 12

_CARD = """\
---
license: apache-2.0
library_name: transformers
tags: [layertracer, miniature]
---

# {name}

{description}.

{n_parameters:,} parameters in 8 layers, trained from scratch on the procedural corpus of LayerTracer's miniatures. It
knows {n_words:,} words and what can be asked about them in few-shot prompts; it is a subject for measurements, not a
language model to use.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/{name}")
tokenizer = AutoTokenizer.from_pretrained("path/to/{name}")
```

## Training

| | |
|---|---|
| command | `{command}` |
| family, size, seed | {family}, {size}, {seed} (seed of the initial weights and of the data) |
| steps | {n_steps:,} of {n_documents} documents of {n_tokens} tokens, {n_tokens_total:.1f} million tokens |
| optimiser | Muon for the matrices of the layers, AdamW for the rest, in float32; stored in bfloat16 |
| time | {cpu_min:.1f} CPU minutes with one thread |
| machine | {machine}; {versions} |

Loss in nats a token, means of 20 steps, over tokens that what precedes them determines:

| step | {steps} |
|---|{rules}|
| loss | {losses} |

## What it answers

Share of questions answered rightly by the stored weights, {n} of each kind, none of them in the training data. *New
prompts*: known pairs in the template of training. *Held-out pairs*: pairs that training only states in sentences, never
in a prompt; for rules, recall and arithmetic, words and sums that it never uses there. *Held-out template*: signs that
training never combines so. *New words*: templates with a word that no template of training has.

| task | new prompts | held-out pairs | held-out template | new words |
|---|---|---|---|---|
{scores}

## Licence

Apache-2.0. The word pairs of antonym and synonym are from WordNet 3.0, under its licence.
"""


def write_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown, from the record in `training.json`."""
    from training.vocabulary import token_ids

    recipe, points = record["recipe"], _pick(record["losses"])
    description = str(record["description"])
    return _CARD.format(
        **{name: record[name] for name in ("name", "n_parameters", "command", "family", "size", "seed", "machine")},
        description=description[0].upper() + description[1:],
        n_words=len(token_ids()),
        n_steps=recipe["n_steps"],
        n_documents=recipe["n_documents"],
        n_tokens=recipe["n_tokens"],
        n_tokens_total=recipe["n_steps"] * recipe["n_documents"] * recipe["n_tokens"] / 1e6,
        cpu_min=record["cpu_s"] / 60,
        versions=", ".join(f"{package} {version}" for package, version in record["versions"].items()),
        steps=" | ".join(str(point["step"]) for point in points),
        rules="---|" * (len(points) - 1) + "---",
        losses=" | ".join(f"{point['loss_nats']:.2f}" for point in points),
        n=record["scores"][0]["n"],
        scores="\n".join(_score_rows(record["scores"])),
    )


def _pick(losses: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Points spread over the loss curve, the last among them."""
    stride = max(1, len(losses) // _N_POINTS)
    return list(losses[::-1][::stride])[::-1]


def _score_rows(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each task."""
    by_kind = {(score["task"], score["novelty"]): score for score in scores}
    tasks = dict.fromkeys(score["task"] for score in scores)
    return [
        f"| {task} | " + " | ".join(_share(by_kind.get((task, novelty))) for novelty in NOVELTIES) + " |"
        for task in tasks
    ]


def _share(score: Mapping[str, Any] | None) -> str:
    return "" if score is None else f"{100 * score['n_right'] / score['n']:.0f} %"
