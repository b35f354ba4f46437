"""The plan of a trace, against what the trace really does: live bytes, arithmetic, passes, and the same numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import layertracer as lt
from layertracer.tracing import TraceOptions
from layertracer.tracing._engine import Engine
from layertracer.tracing._model import encode_for
from layertracer.tracing._observers.site_sums import SiteSums
from layertracer.tracing._passes.batch_passes import BatchPasses
from layertracer.tracing._passes.row_groups import DrawAxis
from layertracer.tracing._perturbers.protocol import make_perturber
from layertracer.tracing._plan import audit_plan, plan_prompts
from layertracer.tracing._planning.op_meter import Meter, Reading
from layertracer.tracing._planning.token_spans import fit_lines
from layertracer.tracing._planning.trace_plan import TracePlan
from layertracer.tracing._proofs.audit import Auditor
from layertracer.tracing._readings import Readings
from layertracer.tracing._whole_answers import AnswerReader

from tests.support.budgets import allowing, laid_out_for
from tests.support.models.families import build_tiny
from tests.support.models.hybrids import Hybrid

_SIZES = {"alone": (12, 0, 20), "shared": (40, 24, 4)}
"""Prompts, tokens that they share, and tokens of their own."""

_CASES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("llama", "alone", {}),
    ("llama", "alone", {"site": "mixer_output"}),
    ("llama", "alone", {"positions": "last"}),
    ("llama", "shared", {}),
    ("llama", "shared", {"site": "mixer_output"}),
    ("llama", "shared", {"positions": "last"}),
    ("mamba2", "alone", {"site": "mixer_output"}),
    ("mamba2", "shared", {}),
    ("jamba", "alone", {}),
    ("jamba", "shared", {}),
    ("jamba", "shared", {"positions": "last"}),
    ("qwen3_next", "shared", {}),
    ("hybrid", "alone", {"site": "mlp_output"}),
)
_SLOW = ("jamba", "qwen3_next")


def mask_of(how: Mapping[str, Any]) -> lt.Mask:
    """A mask of five draws, of the stream unless the settings say otherwise."""
    return lt.Mask(**{"site": "block_output", "draws": 5, **how})


@cache
def wrapped(name: str) -> lt.TracedModel:
    """A tiny model."""
    return lt.wrap_model(Hybrid() if name == "hybrid" else build_tiny(name), name=name)


def samples(size: str, d_vocab: int = 40) -> list[lt.Sample]:
    """Prompts of one length."""
    n_prompts, n_shared, n_own = _SIZES[size]
    tokens = np.random.default_rng(3).integers(1, d_vocab, size=(n_prompts, n_shared + n_own))
    tokens[:, :n_shared] = tokens[0, :n_shared]
    return [lt.Sample(prompt_ids=tuple(row), answer_id=7) for row in tokens.tolist()]


def metered(
    model: lt.TracedModel, prompts: Sequence[lt.Sample], mask: lt.Mask, live: str
) -> tuple[TracePlan, Reading, int]:
    """What was planned for a trace, what a meter shows after its passes, and what was to be live at most."""
    options = TraceOptions(perturbation=mask, memory=allowing(model, prompts, live))
    encoded = encode_for(model, prompts, chat=False).samples
    laid_out = laid_out_for(model, prompts)
    planned = plan_prompts(model, laid_out, options, measures=True)
    work, anatomy = planned.planner.work, model.anatomy
    passes = BatchPasses(
        network=model.network,
        axes=model.axes,
        perturbers=(make_perturber(mask, n_layers=anatomy.n_layers, width=anatomy.d_model, device=model.device),),
        draws=DrawAxis((mask.n_draws,)),
        last=(work.last_only,),
        cached=work.cached,
        observers=(SiteSums.of(model.network, mask.site),),
    )
    readings = Readings.empty(n_prompts=len(laid_out), n_layers=anatomy.n_layers, n_draws=mask.n_draws, n_top=5)
    with Meter() as meter:
        Engine(
            passes=passes,
            planner=planned.planner,
            readings=readings,
            auditor=Auditor(
                network=model.network,
                work=work,
                readings=readings,
                reduction=planned.planner.batch_costs.reduction,
                passes=passes,
                plan=audit_plan(planned.schedule, work, options),
            ),
            answers=AnswerReader(
                network=model.network,
                axes=model.axes,
                samples=encoded,
                method=work.method,
                row_by_row=planned.planner.row_by_row,
                budget_bytes=planned.planner.budget_bytes,
                row_bytes=planned.planner.clean_row_bytes,
            ),
        ).run(planned.schedule)
    assert readings.finished.all()
    return planned.plan, meter.reading(), planned.planner.budget_bytes


@pytest.mark.parametrize(
    ("name", "size", "how", "live"),
    # Models that read on token by token, or prompt by prompt in Python, take minutes in passes of a few rows.
    [(*case, live) for live in ("1GiB", "2MB") for case in _CASES if live == "1GiB" or case[0] not in _SLOW],
    ids=str,
)
def test_the_peak_is_foreseen(name: str, size: str, how: Mapping[str, Any], live: str) -> None:
    """The most that is ever live in a trace is within 25 % of what was planned, and within the budget."""
    plan, seen, most = metered(wrapped(name), samples(size), mask_of(how), live)
    assert plan.is_measured
    assert plan.live_bytes == pytest.approx(seen.peak, rel=0.25)
    assert plan.peak_bytes <= plan.budget_bytes
    assert seen.peak <= 1.1 * most


@pytest.mark.parametrize(("name", "size", "how"), _CASES[:8], ids=str)
def test_the_arithmetic_is_foreseen(name: str, size: str, how: Mapping[str, Any]) -> None:
    """Products of matrices and attention are counted within a seventh of what really runs."""
    plan, seen, _ = metered(wrapped(name), samples(size), mask_of(how), "1GiB")
    assert plan.flops.total == pytest.approx(seen.flops, rel=0.15)


@pytest.mark.parametrize(
    ("name", "size"), [("llama", "alone"), ("llama", "shared"), ("mamba2", "shared"), ("jamba", "alone")]
)
def test_numbers_do_not_depend_on_the_budget(name: str, size: str) -> None:
    """With less memory the ladder is cut into more passes, needs less at its peak, and gives the same numbers."""
    model, prompts = wrapped(name), samples(size)
    mask = mask_of({})
    budgets = [allowing(model, prompts, live) for live in ("1GiB", "600kB")]
    roomy, cramped = (lt.trace(model, prompts, perturbation=mask, memory=memory) for memory in budgets)
    assert roomy.plan is not None
    assert cramped.plan is not None
    assert cramped.plan["n_passes"] > roomy.plan["n_passes"]
    assert cramped.plan["live_bytes"] < roomy.plan["live_bytes"] / 2
    np.testing.assert_allclose(cramped.js_bits, roomy.js_bits, atol=1e-6, rtol=0)
    np.testing.assert_allclose(cramped.target_log_prob, roomy.target_log_prob, atol=1e-5, rtol=0)


def test_a_ladder_is_cut_where_one_prompt_does_not_fit() -> None:
    """Where all copies of a single prompt do not fit, layers come in ranges: several passes for each prompt."""
    model, prompts = wrapped("llama"), samples("alone")
    plan = lt.plan(model, prompts, memory=allowing(model, prompts, "200kB"))
    (bucket,) = plan.buckets
    assert bucket.prompts_per_pass == 1
    assert bucket.n_cuts > 1
    assert bucket.n_passes == bucket.n_prompts * bucket.n_cuts


def test_a_prefix_that_does_not_fit_is_not_shared() -> None:
    """Where what is remembered of a prefix does not fit, prompts are read whole, and the plan says why."""
    model, prompts = wrapped("llama"), samples("shared")
    memory = allowing(model, prompts, "150kB")
    plan = lt.plan(model, prompts, memory=memory)
    assert not plan.prefixes
    assert plan.tokens_saved == 0
    assert any("40 prompts share a prefix of 24 tokens and do not use it" in note for note in plan.notes)
    trace = lt.trace(model, prompts, memory=memory)
    assert any("do not use it" in warning for warning in trace.warnings)
    np.testing.assert_allclose(trace.js_bits, lt.trace(model, prompts, memory="1GiB").js_bits, atol=1e-5, rtol=0)


def test_a_plan_says_what_is_shared() -> None:
    """Prompts, the prefix, the tokens that it saves and the passes are those of the task."""
    plan = lt.plan(wrapped("llama"), samples("shared"), perturbation=lt.Mask(site="block_output", draws=5))
    assert (plan.n_prompts, plan.n_draws, plan.n_variants) == (40, 5, 5 * plan.n_layers)
    (prefix,), (bucket,) = plan.prefixes, plan.buckets
    assert (prefix.start, prefix.end, prefix.n_prompts, prefix.tokens_saved) == (0, 24, 40, 39 * 24)
    assert (bucket.n_shared, bucket.n_own, bucket.n_prompts) == (24, 4, 40)
    assert plan.n_passes == prefix.n_passes + bucket.n_passes
    assert plan.flops.plain > 5 * plan.flops.total
    assert "1 shared prefix (936 tokens saved)" in str(plan)


def test_a_plan_is_kept_with_the_trace(tmp_path: Any) -> None:
    """What was planned is called out before the first pass and stored with the run."""
    seen: list[TracePlan] = []
    trace = lt.trace(wrapped("llama"), samples("alone"), on_plan=seen.append)
    assert trace.plan == seen[0].to_dict()
    assert json.loads(json.dumps(trace.plan)) == trace.plan
    assert lt.load_run(trace.save(tmp_path / "run")) == trace


@pytest.mark.parametrize("site", ["block_output", "state"])
def test_a_small_trace_is_not_measured(site: Any) -> None:
    """Measuring would take longer than the trace: sizes are guessed, and the plan says so."""
    trace = lt.trace(wrapped("llama"), samples("alone")[:2], perturbation=lt.Mask(site=site, draws=1))
    assert trace.plan is not None
    assert trace.plan["is_measured"] is False
    assert trace.plan["flops"]["total"] > 0


def test_lengths_between_are_estimated() -> None:
    """Many lengths are measured at the longest and the shortest alone, and no peak lies outside of theirs."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    prompts = [lt.Sample(prompt_ids=tuple(range(1, n)), answer_id=7) for n in range(4, 40)]
    plan = lt.plan(model, prompts)
    assert len(plan.buckets) == 36
    assert {span.n_own for span in model.cost_probe._known} == {3, 38}
    peaks = [bucket.peak_bytes for bucket in plan.buckets]
    assert peaks == sorted(peaks)


def test_a_model_that_fails_under_the_meter_is_still_planned() -> None:
    """Where costs cannot be measured they are guessed, and the plan says why."""

    class Short(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_tiny("gpt2")

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            if ids.shape == (2, 31):
                raise RuntimeError("not two of 31")
            logits: torch.Tensor = self.inner(ids).logits
            return logits

    model = lt.wrap_model(Short(), name="short")
    plan = lt.plan(model, [lt.Sample(prompt_ids=tuple(range(1, 32)), answer_id=7)])
    assert not plan.is_measured
    assert any("not two of 31" in note for note in plan.notes)


def test_a_meter_counts_what_is_live() -> None:
    """Views take nothing, what is released no longer counts, and what was there before never did."""
    before = torch.ones(256)
    with torch.inference_mode(), Meter() as meter:
        kept = before + 1
        view = kept[:16].t() if kept.ndim == 2 else kept[:16]
        released = torch.ones(512)
        del released
        product = view.reshape(4, 4) @ view.reshape(4, 4)
        reading = meter.reading()
    assert reading.live == kept.nbytes + product.nbytes
    assert reading.peak == kept.nbytes + 512 * 4
    assert reading.flops == 2 * 4 * 4 * 4


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=5))
def test_lines_never_fall(pairs: list[tuple[float, float]]) -> None:
    """A cost is at least 0 at no row, never falls with rows, and is that of two rows where it grows."""
    one, two = (np.array([[pair[which] for pair in pairs]]) for which in (0, 1))
    fixed, per_row = fit_lines(one, two)[0]
    assert (fixed >= 0).all()
    assert (per_row >= 0).all()
    grows = (two >= one)[0]
    np.testing.assert_allclose((fixed + 2 * per_row)[grows], two[0][grows])
