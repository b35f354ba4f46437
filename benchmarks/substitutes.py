"""What all single substitutions take beside one forward for each: CPU seconds of one thread, and counted arithmetic.

    OMP_NUM_THREADS=1 python -m benchmarks.substitutes --pairs 3 --out benchmarks/results/substitutes.json

Every layer's mixer substituted alone in the full model, and every layer's kept alone in the fully substituted one, in
one call; and the plain way, one hooked forward of the model's own code for each. The first also makes numbers of the
distributions (divergence, log-probability, top token); the second is given that for nothing: it ends with the logits.
Rows are stretches of a text, read at every position beyond the window or at every fourth; and prompts of which the
answer's position alone is read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import layertracer as lt
from benchmarks.machine import tell_figures
from layertracer.tracing import JudgedRow, Substituter, make_substituter
from layertracer.tracing._passes.placed import plain_placed
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._perturbers.substitutes import WindowPerturber
from layertracer.tracing._planning.op_meter import Meter

_MODEL = "smollm2"
_WINDOW = lt.Window(16, sinks=4)
_LENGTH = 160
_TEXT = Path(__file__).parents[1] / "docs" / "concepts.md"
_READ: dict[str, range] = {
    "every position": range(_WINDOW.n_seen, _LENGTH),
    "every fourth position": range(_WINDOW.n_seen, _LENGTH, 4),
    "the last position": range(_LENGTH - 1, _LENGTH),
}
_AUDITS = (0.0, 0.1)


def singles(placeable: Sequence[int]) -> list[tuple[int, ...]]:
    """The layers kept: all but one, for each; and one alone, for each."""
    removed = [tuple(layer for layer in placeable if layer != one) for one in placeable]
    return removed + [(layer,) for layer in placeable]


def together(substituter: Substituter, row: JudgedRow) -> None:
    """All singles in one call."""
    substituter.measure([row], singles(substituter.placeable))


def apart(substituter: Substituter, row: JudgedRow) -> None:
    """One forward for each, and one of the full model."""
    network, ids = substituter.model.network, torch.tensor([row.ids])
    perturber = WindowPerturber(window=_WINDOW)
    with torch.no_grad():
        plain_logits(network, ids, read=range(_LENGTH))
        for kept in singles(substituter.placeable):
            layers = tuple(layer for layer in substituter.placeable if layer not in kept)
            plain_placed(network, ids, read=range(_LENGTH), perturber=perturber, layers=layers)


def measure(model: lt.TracedModel, ids: Sequence[int], read: range, *, audit: float, pairs: int) -> dict[str, Any]:
    """CPU seconds and arithmetic of both ways, and their ratios."""
    substituter = make_substituter(model, _WINDOW, audit=audit, memory="4GiB")
    row = JudgedRow(ids=tuple(ids), read=tuple(read))
    substituter.measure([row], [()])  # what is proved once for rows of a length
    found = []
    for pair in range(pairs):
        ways = (together, apart) if pair % 2 else (apart, together)
        taken = {way: _seconds(lambda way=way: way(substituter, row)) for way in ways}  # type: ignore[misc]
        found.append((taken[together], taken[apart]))
    flops = {way: _flops(lambda way=way: way(substituter, row)) for way in (together, apart)}  # type: ignore[misc]
    ratios = [one / all_ for all_, one in found]
    return {
        "read": len(read),
        "audit": audit,
        "placements": len(singles(substituter.placeable)),
        "cpu_s_together": statistics.median(all_ for all_, _ in found),
        "cpu_s_apart": statistics.median(one for _, one in found),
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "flops_together": flops[together],
        "flops_apart": flops[apart],
        "ratio_of_flops": flops[apart] / flops[together],
    }


def _seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _flops(run: Callable[[], None]) -> int:
    with Meter() as meter:
        run()
    return int(meter.reading().flops)


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each pair (default 3)")
    parser.add_argument(
        "--only", action="append", choices=tuple(_READ), help="what is read; may be given several times"
    )
    parser.add_argument("--audit", action="append", type=float, help="share measured again; repeatable")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = lt.load_model(_MODEL)
    ids = model.tokenizer(_TEXT.read_text(encoding="utf-8"))["input_ids"][:_LENGTH]
    figures: dict[str, Any] = {"model": _MODEL, "window": _WINDOW.to_dict(), "length": _LENGTH, "pairs": options.pairs}
    figures["jobs"] = {
        f"{name}, audit {audit:g}": measure(model, ids, _READ[name], audit=audit, pairs=options.pairs)
        for name in options.only or _READ
        for audit in options.audit or _AUDITS
    }
    tell_figures(figures, options.out)


if __name__ == "__main__":
    main()
