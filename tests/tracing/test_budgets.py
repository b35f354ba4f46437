"""Budgets are kept: what is planned is what is taken, or more; and what cannot be kept is refused before it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from benchmarks.measuring import can_forget_peak
from layertracer.tracing import TraceOptions
from layertracer.tracing import _readout as _lens
from layertracer.tracing._batching.process_memory import Keeper, ProcessGrowth
from layertracer.tracing._passes.ladder import run_ladder
from layertracer.tracing._passes.measure import followed_of, measure_rows
from layertracer.tracing._passes.tail import make_reduction
from layertracer.tracing._plan import plan_prompts
from layertracer.tracing._planning.length_steps import foresee, probed_bytes
from layertracer.tracing._planning.measured_costs import CostProbe
from layertracer.tracing._planning.op_meter import Meter
from layertracer.tracing._planning.token_spans import Quantity, SpanCosts, TokenSpan

from tests.support.budgets import laid_out_for
from tests.support.models.families import build_tiny
from tests.support.peaks import BUDGET, FREE, READOUT, TIGHT, build

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


def measured_in_a_process(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What traces and readouts took in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.peaks", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["name"] for one in found] == list(names)
    return found


def check_peaks(names: tuple[str, ...]) -> None:
    """Run traces in a process of their own, and hold what they took against what was planned."""
    for one in measured_in_a_process(names):
        assert one["is_measured"], one
        assert one["planned_bytes"] >= 0.8 * one["real_bytes"], one
        assert one["real_bytes"] <= TIGHT.get(one["name"], BUDGET), one


@pytest.mark.skipif(not can_forget_peak(), reason="the kernel does not let a process measure its peak anew")
def test_the_process_takes_no_more_than_planned() -> None:
    """With short prompts in recurrent layers, and with many logits, no more is taken than was planned."""
    check_peaks(("mamba2", "qwen3_next", "wide", "capped", "written-out"))


@pytest.mark.skipif(not can_forget_peak(), reason="the kernel does not let a process measure its peak anew")
def test_a_refusal_and_a_readout_take_no_more_than_they_must() -> None:
    """A trace is refused without taking more than its budget; the result of a readout is there once."""
    refused, read = measured_in_a_process(("beyond", READOUT))
    assert refused["planned_bytes"] is None
    assert refused["real_bytes"] <= TIGHT["beyond"], refused
    assert read["real_bytes"] <= FREE, read


def test_a_readout_that_does_not_fit_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how large the result is, and how many prompts do fit."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    n_lens_rows, d_vocab = 1 + model.anatomy.n_layers, model.anatomy.d_vocab
    monkeypatch.setattr(_lens, "free_bytes", lambda: 100 * n_lens_rows * d_vocab * 4)
    monkeypatch.setattr(_lens, "_read_all", lambda *_: pytest.fail("something ran"))
    with pytest.raises(lt.OutOfMemoryError, match=rf"75 × {n_lens_rows} × .* Read 74 prompts or fewer at a time"):
        lt.read_layers(model, samples(75, 5))


def test_long_spans_are_foreseen_where_they_do_not_fit() -> None:
    """Nothing longer runs than fits into the room, and what is foreseen is within 25 % of what is measured."""
    network = lt.wrap_model(build("written-out"), name="written-out").network
    whole = TokenSpan(n_before=0, n_own=800, cached=False)
    measured = CostProbe(network=network).measure([whole], None)[whole]
    lengths: list[int] = []
    handle = network.anatomy.layers[0].module.register_forward_pre_hook(
        lambda _, args: lengths.append(args[0].shape[1])
    )
    probe = CostProbe(network=network)
    foreseen = probe.measure([whole], None, room_bytes=probed_bytes(measured) / 3)[whole]
    handle.remove()
    assert 100 <= max(lengths) < 800
    assert probed_bytes(foreseen) == pytest.approx(probed_bytes(measured), rel=0.25)
    with_room = probe.measure([whole], None, room_bytes=2 * probed_bytes(measured))[whole]
    np.testing.assert_array_equal(with_room.lines[Quantity.PEAK], measured.lines[Quantity.PEAK])


def test_costs_that_are_parabolas_are_foreseen_exactly() -> None:
    """3 + 2 n + n² at 10, 20 and 40 tokens is 6,563 at 80; from one length alone it is four times that of half."""

    def at(n: int) -> tuple[TokenSpan, SpanCosts]:
        lines = np.full((len(Quantity), 2, 3), 3.0 + 2 * n + n * n)
        costs = SpanCosts(lines=lines, stream_bytes=4.0 * n, memory_bytes=np.array([float(n)]))
        return TokenSpan(n_before=0, n_own=n, cached=False), costs

    eighty = at(80)[0]
    foreseen = foresee([at(10), at(20), at(40)], eighty)
    assert foreseen.lines[Quantity.PEAK] == pytest.approx(6563.0)
    assert (foreseen.stream_bytes, foreseen.memory_bytes[0]) == (320.0, 80.0)
    assert foresee([at(40)], eighty).lines[Quantity.PEAK] == pytest.approx(4 * 1683.0)


def test_what_was_freed_is_kept_only_where_there_is_room() -> None:
    """100 live bytes grow to 300 where 300 may be taken, and to 200 where 250 may."""
    growth = ProcessGrowth(slack=2.0, kept_slack=3.0)
    assert growth.within(300, 100).of(100) == 300
    assert growth.within(250, 100).of(100) == 200


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
    rows = run_ladder(model.network, ids, read=prompts[0].read, perturber=None, variants={}, axes=model.axes)
    reduction = make_reduction(model.network, 2**30)
    lens = measure_rows([rows], prompts, ids, reduction=reduction).lens
    variants = [(layer, draw) for layer in state.site.layers for draw in range(4)][:n_variants]
    with torch.no_grad(), Meter() as meter:
        state.measure(ids, prompts, lens, cells=variants, n_variants=n_variants, followed=followed_of(prompts, lens))
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
