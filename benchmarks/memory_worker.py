"""One cell of the memory grid, in a process of its own.

    python -m benchmarks.memory_worker CELL NUMBERS [GROUP LIMIT_FILE]

CELL is JSON; the trace's numbers go into the file NUMBERS, what it took is printed as JSON. In a control group the
limit is set when the model is there: what is resident then, and the budget.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.control_group import ControlGroup
from benchmarks.measuring import measure, resident_bytes
from benchmarks.memory_cells import Cell


def run(cell: Cell, numbers: Path, group: ControlGroup | None) -> dict[str, Any]:
    """What was planned, and what it took."""
    if group is not None:
        group.join(os.getpid())
    import layertracer as lt

    model = lt.load_model(cell.model)
    samples = samples_of(cell, model.anatomy.d_vocab)
    resident = resident_bytes()
    if group is not None:
        group.limit(lt.tracing.parse_memory(cell.budget))
    try:
        trace, cost = measure(lambda: lt.trace(model, samples, memory=cell.budget, **settings_of(cell)))
    except lt.OutOfMemoryError as error:
        return {"refused": str(error)}
    except lt.SiteError as error:
        return {"lacks_site": str(error)}
    assert trace.plan is not None  # it was traced
    np.savez(numbers, log_prob=trace.target_log_prob, js=trace.js_bits)
    return {
        "planned_bytes": trace.plan["peak_bytes"],
        "live_bytes": trace.plan.get("live_bytes"),
        "real_bytes": cost.peak_bytes - resident,
        "is_measured": trace.plan["is_measured"],
        "n_passes": trace.plan["n_passes"],
        "n_prompts": trace.n_prompts,
        "cpu_s": round(cost.cpu_s, 2),
        "warnings": list(trace.warnings),
    }


def samples_of(cell: Cell, d_vocab: int) -> list[Any]:
    """Its prompts with their answers."""
    import layertracer as lt

    answer = {"answer_ids": (7, 8, 9)} if cell.option == "all" else {"answer_id": 7}
    return [lt.Sample(prompt_ids=ids, **answer) for ids in cell.token_ids(d_vocab)]


def settings_of(cell: Cell) -> dict[str, Any]:
    """What `trace` is told beside the budget."""
    import layertracer as lt

    mask = lt.Mask(draws=cell.draws, fill="mean" if cell.option == "mean" else "zero")
    if cell.option in ("block_output", "state"):
        mask = replace(mask, site=cell.option)
    return {
        "perturbation": mask,
        "target_tokens": "all" if cell.option == "all" else "first",
        "share_prefix": True if cell.option == "shared" else None,
    }


def main() -> None:
    """Run the cell that is asked for."""
    asked, numbers, *where = sys.argv[1:]
    group = ControlGroup(folder=Path(where[0]), limit_file=where[1]) if where else None
    print(json.dumps(run(Cell(**json.loads(asked)), Path(numbers), group)))


if __name__ == "__main__":
    main()
