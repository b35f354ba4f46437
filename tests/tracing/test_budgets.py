"""Budgets are kept: what is planned is what is taken, or more; and what cannot be kept is refused before it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from benchmarks.measuring import can_forget_peak
from layertracer.tracing import TraceOptions
from layertracer.tracing._ladder import climb
from layertracer.tracing._measure import measure_rows
from layertracer.tracing._meter import Meter
from layertracer.tracing._plan_trace import plan_prompts
from layertracer.tracing._process_memory import Keeper, ProcessGrowth
from layertracer.tracing._reckoner import make_reduction

from tests.architectures.families import build_tiny
from tests.budgets import laid_out_for
from tests.peaks import BUDGET

ROOT = Path(__file__).parents[2]
SWEEP = (
    "long",
    "jamba",
    "llama",
    "mistral",
    "qwen3_moe",
    "mixtral",
    "gemma3_text",
    "mamba",
    "rwkv",
    "qwen3_5_text",
    "falcon",
    "xlstm",
)


def samples(n_prompts: int, length: int) -> list[lt.Sample]:
    """Prompts of one length."""
    rows = np.random.default_rng(5).integers(1, 40, size=(n_prompts, length)).tolist()
    return [lt.Sample(prompt_ids=tuple(row), answer_id=7) for row in rows]


def check_peaks(names: tuple[str, ...]) -> None:
    """Run traces in a process of their own, and hold what they took against what was planned."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.peaks", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["name"] for one in found] == list(names)
    for one in found:
        assert one["is_measured"], one
        assert one["planned_bytes"] >= 0.8 * one["real_bytes"], one
        assert one["real_bytes"] <= BUDGET, one


@pytest.mark.skipif(not can_forget_peak(), reason="the kernel does not let a process measure its peak anew")
def test_the_process_takes_no_more_than_planned() -> None:
    """With short prompts in recurrent layers, and with many logits, no more is taken than was planned."""
    check_peaks(("mamba2", "qwen3_next", "wide"))


@pytest.mark.slow
@pytest.mark.skipif(not can_forget_peak(), reason="the kernel does not let a process measure its peak anew")
def test_the_process_takes_no_more_than_planned_in_other_families() -> None:
    """The same for long prompts, windows, experts and other recurrences."""
    check_peaks(SWEEP)


@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_what_a_budget_is_given_for_is_measured(name: str) -> None:
    """However short the trace, costs are measured where somebody named a budget."""
    plan = lt.trace(lt.wrap_model(build_tiny(name), name=name), samples(1, 4), memory="1GB").plan
    assert plan is not None
    assert plan["is_measured"]


def test_recurrent_layers_are_always_measured() -> None:
    """What their kernels take does not follow from the shapes of their weights."""
    plan = lt.trace(lt.wrap_model(build_tiny("mamba2"), name="mamba2"), samples(1, 4)).plan
    assert plan is not None
    assert plan["is_measured"]


@pytest.mark.parametrize("site", ["block_output", "state"])
def test_a_budget_that_cannot_be_kept_is_refused_before_anything_runs(site: str) -> None:
    """The error names a budget, and with that budget the trace is planned within it and runs."""
    model = lt.wrap_model(build_tiny("mamba2"), name="mamba2")
    mask = lt.Mask(site=site, draws=2)  # type: ignore[arg-type]  # one of the sites
    finished = []
    with pytest.raises(lt.OutOfMemoryError, match=r"even in the smallest passes") as caught:
        lt.trace(model, samples(3, 5), perturbation=mask, memory="20MB", progress=lambda *_: finished.append(1))
    assert not finished
    named = re.search(r"--memory (\d+MB)", str(caught.value))
    assert named is not None
    plan = lt.trace(model, samples(3, 5), perturbation=mask, memory=named[1]).plan
    assert plan is not None
    assert plan["peak_bytes"] <= plan["budget_bytes"]


@pytest.mark.parametrize("name", ["llama", "mamba2", "jamba"])
@pytest.mark.parametrize(("n_prompts", "n_variants"), [(1, 5), (4, 3)])
def test_state_passes_take_what_was_measured(name: str, n_prompts: int, n_variants: int) -> None:
    """The lines through one and two prompts and variants foresee what more of them take, within 25 %."""
    model = lt.wrap_model(build_tiny(name), name=name)
    mask = lt.Mask(site="state", draws=4)
    prompts = laid_out_for(model, samples(n_prompts, 12))
    state = plan_prompts(model, prompts, TraceOptions(perturbation=mask, memory="1GB")).planner.work.state
    assert state is not None
    assert state.costs is not None
    ids = torch.tensor([prompt.ids for prompt in prompts])
    rows = climb(model.network, ids, read=prompts[0].read, perturber=None, variants={}, axes=model.axes)
    reduction = make_reduction(model.network, 2**30)
    lens = measure_rows([rows], prompts, ids, reduction=reduction).lens
    variants = [(layer, draw) for layer in state.site.layers for draw in range(4)][:n_variants]
    with torch.no_grad(), Meter() as meter:
        state.measure(ids, prompts, lens, n_variants=n_variants, variants=variants)
    planned, real = state.costs.peak_bytes(n_prompts, n_variants), meter.reading().peak
    assert planned >= 0.8 * real
    assert planned <= 2 * real


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(1, 4), st.integers(1, 10**12))
def test_growth_and_what_may_be_live_are_inverse(standing: int, least: int, slack: float, budget: int) -> None:
    """What may be live within a budget makes a process grow by no more than it, where it is enough at all."""
    growth = ProcessGrowth(standing_bytes=standing, slack=slack, least_bytes=least)
    live = growth.live_within(budget)
    assert live >= 0
    assert growth.of(live) <= max(budget, standing, least) + 1
    assert live > 0 or budget <= max(standing, least) + slack


def test_what_was_freed_goes_back() -> None:
    """An allocator that holds on to freed pieces between others is made to return them."""
    keeper, process = Keeper(2**20), psutil.Process()
    pieces = [torch.ones(2**13) for _ in range(4000)]
    kept = pieces[::50]  # they keep the heap from shrinking
    pieces.clear()
    held = process.memory_info().rss
    keeper.keep()
    assert len(kept) == 80
    assert process.memory_info().rss <= held
