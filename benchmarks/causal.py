"""What all cells of causal tracing take beside one plain forward for each: CPU seconds of one thread, and counted work.

    OMP_NUM_THREADS=1 python -m benchmarks.causal --facts FILE --pairs 2 --out benchmarks/results/causal.json

Each fact is run beside another of its relation whose subject has as many tokens ("swap"); what leaves a layer in the
one run is put into the other, at every layer and at every position from the subject on. The plain loop runs whole
prompts, a row for each layer and fact, as many in one forward as LayerTracer's pass at a position begins with copies
of; it hooks the model's own layers, and asks for the logits at the last position alone. FILE is in the form of ROME's
`known_1000.json`; without one, stretches of a text stand for facts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import layertracer as lt
from benchmarks.counting import counting_row_tokens
from benchmarks.machine import tell_figures
from layertracer.tracing import CausalOptions, CausalPrompt, run_causal
from layertracer.tracing._patching.batch_sizes import buckets
from layertracer.tracing._patching.two_runs import Case

_TEXT = Path(__file__).parents[1] / "docs" / "concepts.md"
_LENGTHS = range(8, 14)
_AUDITS = (0.0, 0.1)
_SPAN = 2
_AS_TRACED = 4
"""Facts in one forward of the plain loop, at most: with 30 layers each, as many rows as a pass of a ladder takes."""


def facts_of(model: lt.TracedModel, file: Path, n_facts: int) -> list[CausalPrompt]:
    """Facts of a file with contrasts out of it, all of which the model can tell apart from them."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    by_form: dict[tuple[Any, ...], list[tuple[list[int], tuple[int, int], int]]] = {}
    for row in rows:
        before, _, after = row["template"].partition("{}")
        # The space before a subject belongs to its first token.
        subject = (" " if before.endswith(" ") else "") + row["subject"]
        parts = [_tokens(model, text) for text in (before.rstrip(), subject, after)]
        span = len(parts[0]), len(parts[0]) + len(parts[1])
        form = row["relation_id"], row["template"], len(parts[1])
        answer = _tokens(model, " " + row["attribute"])[0]
        by_form.setdefault(form, []).append(([*parts[0], *parts[1], *parts[2]], span, answer))
    prompts: list[CausalPrompt] = []
    for same in by_form.values():
        for (ids, span, answer), (other, _, _) in pairwise(same):
            if ids[span[0]] != other[span[0]]:
                prompts.append(_prompt(len(prompts), ids, other, span=span, answer=answer))
    return prompts[:n_facts]


def _tokens(model: lt.TracedModel, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def made_up(model: lt.TracedModel, n_facts: int) -> list[CausalPrompt]:
    """Stretches of a text in place of facts, with others in place of their contrasts."""
    ids = model.tokenizer(_TEXT.read_text(encoding="utf-8"))["input_ids"]
    prompts = []
    for number in range(n_facts):
        length, start = _LENGTHS[number % len(_LENGTHS)], 40 * number
        own, other = ids[start : start + length], ids[start + 20 : start + 20 + length]
        span = _SPAN, _SPAN + 2
        prompts.append(_prompt(number, own, [*own[:_SPAN], *other[_SPAN:4], *own[4:]], span=span, answer=own[0]))
    return prompts


def _prompt(
    number: int, ids: Sequence[int], other: Sequence[int], *, span: tuple[int, int], answer: int
) -> CausalPrompt:
    return CausalPrompt(index=number, ids=tuple(ids), corrupted_ids=tuple(other), span=span, answers=(answer,))


def count_cells(prompts: Sequence[CausalPrompt], n_layers: int) -> int:
    """One a layer and position from the subject on."""
    return n_layers * sum(len(prompt.ids) - prompt.first for prompt in prompts)


def count_plain(prompts: Sequence[CausalPrompt], n_layers: int) -> int:
    """Rows × layers × positions that a forward for each cell takes."""
    return n_layers * sum(len(prompt.ids) * count_cells([prompt], n_layers) for prompt in prompts)


def count_traced(prompts: Sequence[CausalPrompt], n_layers: int) -> int:
    """Rows × layers × positions that LayerTracer's passes take.

    Both runs once, the donor once more; the base run of what comes before each position, a token at a time; and for
    each position what is left of the prompt, with rows that come in behind each layer but the last.
    """
    total = 0
    for prompt in prompts:
        length = len(prompt.ids)
        total += 3 * length * n_layers + (length - 1) * n_layers
        for position in range(prompt.first, length):
            total += (length - position) * (n_layers + n_layers * (n_layers - 1) // 2)
    return total


def traced(model: lt.TracedModel, prompts: Sequence[CausalPrompt], *, audit: float) -> None:
    """All cells by LayerTracer."""
    run_causal(model, prompts, CausalOptions(corrupt="swap", audit=audit), min_total_effect=0)


def plain(model: lt.TracedModel, prompts: Sequence[CausalPrompt]) -> None:
    """All cells by hooks, one row of a forward for each."""
    with torch.no_grad():
        for bucket in buckets([Case(number, prompt, 0) for number, prompt in enumerate(prompts)]):
            for start in range(0, len(bucket), _AS_TRACED):
                _plain_batch(model, [case.prompt for case in bucket[start : start + _AS_TRACED]])


def _plain_batch(model: lt.TracedModel, prompts: Sequence[CausalPrompt]) -> None:
    layers, donor, n = [layer.module for layer in model.anatomy.layers], dict[int, Tensor](), len(prompts)
    clean = torch.tensor([prompt.ids for prompt in prompts])
    corrupted = torch.tensor([prompt.corrupted_ids for prompt in prompts])

    def copy(layer: int) -> Callable[..., None]:
        return lambda _, __, output: donor.__setitem__(layer, _stream_of(output))

    def patch(layer: int, position: int) -> Callable[..., None]:
        def hook(_: object, __: object, output: Any) -> None:
            _stream_of(output)[layer * n : (layer + 1) * n, position] = donor[layer][:, position]

        return hook

    with ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.callback(layer.register_forward_hook(copy(number)).remove)
        model.module(clean, use_cache=False, logits_to_keep=1)
    rows = corrupted.repeat(len(layers), 1)
    for position in range(prompts[0].first, clean.shape[1]):
        with ExitStack() as stack:
            for number, layer in enumerate(layers):
                stack.callback(layer.register_forward_hook(patch(number, position)).remove)
            model.module(rows, use_cache=False, logits_to_keep=1).logits.log_softmax(-1)


def _stream_of(output: Any) -> Tensor:
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def count_row_tokens(model: lt.TracedModel, run: Callable[[], None]) -> int:
    """Rows × layers × positions that went through the layers' last matrix products."""
    products = [
        [part for part in layer.module.modules() if isinstance(part, torch.nn.Linear)][-1]
        for layer in model.anatomy.layers
    ]
    with counting_row_tokens(products) as passages:
        run()
    return passages.n_row_tokens


def measure(model: lt.TracedModel, prompts: Sequence[CausalPrompt], *, audit: float, pairs: int) -> dict[str, Any]:
    """CPU seconds of both ways, one after the other, and their ratios."""
    ways: dict[str, Callable[[], None]] = {
        "traced": lambda: traced(model, prompts, audit=audit),
        "plain": lambda: plain(model, prompts),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for pair in range(pairs):
        for name in ways if pair % 2 else reversed(ways):
            start = time.process_time()
            ways[name]()
            found[name].append(time.process_time() - start)
    ratios = [one / own for own, one in zip(found["traced"], found["plain"], strict=True)]
    return {
        "audit": audit,
        "cpu_s_traced": statistics.median(found["traced"]),
        "cpu_s_plain": statistics.median(found["plain"]),
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, help="facts in the form of known_1000.json")
    parser.add_argument("--n-facts", type=int, default=50, help="how many facts (default 50)")
    parser.add_argument("--every", type=int, default=1, help="of these, time every so many (default 1)")
    parser.add_argument("--pairs", type=int, default=2, help="measurements of each pair (default 2)")
    parser.add_argument("--audit", action="append", type=float, help="share measured again; repeatable")
    parser.add_argument("--model", default="smollm2", help="the model (default smollm2)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = lt.load_model(options.model)
    prompts = facts_of(model, options.facts, options.n_facts) if options.facts else made_up(model, options.n_facts)
    n_layers = model.anatomy.n_layers
    traced(model, prompts[:1], audit=0.0)  # what is proved once for a model
    figures: dict[str, Any] = {
        "model": options.model,
        "facts": "known_1000" if options.facts else "stretches of a text",
        "n_facts": len(prompts),
        "tokens": statistics.fmean(len(prompt.ids) for prompt in prompts),
        "first": statistics.fmean(prompt.first for prompt in prompts),
        "cells": count_cells(prompts, n_layers),
        "pairs": options.pairs,
        "rows_layers_positions_traced": count_traced(prompts, n_layers),
        "rows_layers_positions_plain": count_plain(prompts, n_layers),
    }
    timed = prompts[:: options.every]
    figures["timed"] = {"n_facts": len(timed), "cells": count_cells(timed, n_layers)}
    figures["jobs"] = {
        f"audit {audit:g}": measure(model, timed, audit=audit, pairs=options.pairs)
        for audit in options.audit or _AUDITS
    }
    tell_figures(figures, options.out)


if __name__ == "__main__":
    main()
