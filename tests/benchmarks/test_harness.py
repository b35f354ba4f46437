"""What the benchmark measures is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.contenders import CONTENDERS, REFERENCE, SUBJECT, with_layertracer, with_plain_hooks
from benchmarks.counting import count_gflop, counting_row_tokens
from benchmarks.divergence import js_bits, log_probs_of
from benchmarks.driver import MAX_GAP_BITS, checked_gap
from benchmarks.jobs import FULL, QUICK, Job, keep_masks, token_ids
from benchmarks.measuring import can_forget_peak, measure, product_rate
from benchmarks.models import REAL, SMALL, Shape, build
from benchmarks.plots import write_plots
from benchmarks.processes import BenchmarkError, Worker
from benchmarks.report import page_of
from benchmarks.summary import summarise

JOB = Job(name="few", title="a few prompts", model="tiny", n_prompts=3, n_shared=5, n_own=2, rounds=2)


def _record(cpu_s: dict[str, list[float]], *, n_layers: int = 4, group: str = "layers") -> dict[str, Any]:
    """A job's figures, from the CPU seconds of each contender's rounds."""
    runs = {
        name: [
            {"round": number, "cpu_s": seconds, "wall_s": 2 * seconds, "peak_bytes": 2**20, "gap_bits": 1e-6}
            for number, seconds in enumerate(rounds)
        ]
        for name, rounds in cpu_s.items()
    }
    record = {
        "spec": {"name": f"job-{n_layers}", "title": "A job", "n_prompts": 4, "group": group},
        "facts": {"n_layers": n_layers},
        "machine": {"cpu": "A <processor>", "n_cores": 2, "memory_gib": 8.0, "system": "Linux", "python": "3.11"},
        "versions": {name: {"torch": "2.13"} for name in cpu_s},
        "loading_cpu_s": dict.fromkeys(cpu_s, 2.5),
        "measured_on": "2026-01-01",
        "peak_is_of_the_run": True,
        "product_gflop_per_s": [100.0, 50.0],
        "gflop": dict.fromkeys(cpu_s, 10.0),
        "runs": runs,
    }
    return record | {"summary": summarise(record)}


@pytest.mark.parametrize("jobs", [FULL, QUICK], ids=["full", "quick"])
def test_jobs_name_models_and_contenders_that_exist(jobs: tuple[Job, ...]) -> None:
    """Every job has a name of its own, a known model, and known contenders with both sides of the ratio."""
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.model for job in jobs} <= {REAL, *SMALL}
    assert all({REFERENCE, SUBJECT} <= set(job.contenders) <= set(CONTENDERS) for job in jobs)


def test_prompts_share_what_they_should_and_no_more() -> None:
    """All prompts begin with the shared tokens, and differ in their own."""
    ids = token_ids(JOB, d_vocab=1000)
    assert ids.shape == (3, 7)
    assert (ids[:, :5] == ids[0, :5]).all()
    assert len({tuple(row) for row in ids[:, 5:].tolist()}) == 3


def test_a_fifth_of_every_layer_is_masked() -> None:
    """Each layer's mask drops a fifth of the dimensions, and another fifth in another layer."""
    keep = keep_masks(n_layers=3, width=50)
    assert (~keep).sum(axis=1).tolist() == [10, 10, 10]
    assert (keep[0] != keep[1]).any()


def test_divergence_of_equal_and_of_disjoint_distributions() -> None:
    """The contenders' divergence is 0 for equal distributions and one bit for disjoint ones."""
    log_p = log_probs_of(torch.tensor([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]))
    assert js_bits(log_p, log_p).tolist() == [0.0, 0.0]
    torch.testing.assert_close(js_bits(log_p, log_p.flip(0)), torch.ones(2))


def test_plain_hooks_and_layertracer_agree_on_a_model_made_here(tmp_path: Path) -> None:
    """Both contenders of the project's own environment give the same divergences, none of them trivial."""
    build(Shape(n_layers=3, width=64, d_vocab=64)).save_pretrained(tmp_path)
    ids, keep = torch.from_numpy(token_ids(JOB, d_vocab=64)), torch.from_numpy(keep_masks(n_layers=3, width=64)).float()
    by_hooks, by_trace = (one.load("tiny", str(tmp_path))(ids, keep) for one in (with_plain_hooks, with_layertracer))
    assert by_hooks.shape == (3, 3)
    assert by_hooks.min() > 1e-3
    assert (by_hooks - by_trace).abs().max() <= 1e-5


def test_fused_attention_counts_as_if_written_out() -> None:
    """The arithmetic of PyTorch's fused attention is that of its two products."""
    query, key = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8)
    fused = count_gflop(lambda: scaled_dot_product_attention(query, key, key))
    assert fused == count_gflop(lambda: torch.softmax(query @ key.mT, dim=-1) @ key) == 2 * 2 * 3 * 5 * 7 * 16 / 1e9


def test_row_tokens_are_counted_over_all_calls_while_counting() -> None:
    """Each vector that enters a product counts once; afterwards nothing is counted any more."""
    product = torch.nn.Linear(4, 6)
    with counting_row_tokens([product]) as passages:
        product(torch.zeros(2, 5, 4))
        product(torch.zeros(3, 4))
    product(torch.zeros(7, 4))
    assert passages.n_row_tokens == 13


@pytest.mark.skipif(not can_forget_peak(), reason="the system keeps no peak of a single run")
def test_measured_peak_covers_what_a_run_holds() -> None:
    """A run that fills 64 MiB peaks at least that far above a run that fills nothing."""
    _, idle = measure(lambda: None)
    result, busy = measure(lambda: torch.ones(16 * 2**20).sum().item())
    assert result == 16 * 2**20
    assert busy.peak_bytes - idle.peak_bytes > 60 * 2**20
    assert busy.wall_s > 0


def test_product_rate_is_given_for_several_sizes() -> None:
    """The machine's rate is a positive number for each number of rows."""
    rates = product_rate(((16, 8), (8, 16)))
    assert len(rates) > 1
    assert min(rates.values()) > 0


@pytest.mark.parametrize("wrong", [2 * MAX_GAP_BITS, float("nan")])
def test_numbers_that_disagree_are_refused(wrong: float) -> None:
    """A contender whose divergences are off, or no numbers, is named with the gap; a small gap passes."""
    reference = np.full((3, 2), 0.5)
    other = reference.copy()
    other[1, 1] += wrong
    with pytest.raises(BenchmarkError, match="nnsight and plain hooks disagree at few"):
        checked_gap("nnsight", JOB, other, reference)
    assert checked_gap("nnsight", JOB, reference + 1e-6, reference) == pytest.approx(1e-6)


def test_divergences_of_another_shape_are_refused() -> None:
    """What has not one number for each prompt and layer is not compared."""
    with pytest.raises(BenchmarkError, match=r"nnterp gave divergences of shape \(2, 3\)"):
        checked_gap("nnterp", JOB, np.zeros((2, 3)), np.zeros((3, 2)))


def test_ratios_are_taken_within_rounds() -> None:
    """A contender's CPU seconds are divided by LayerTracer's of the same round; rounds that it missed do not count."""
    summary = _record({"plain_hooks": [10.0], "nnsight": [8.0, 12.0], SUBJECT: [2.0, 6.0]})["summary"]
    assert summary["nnsight"]["ratio_of_cpu_s"] == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert summary["plain_hooks"]["ratio_of_cpu_s"]["median"] == 5.0
    assert summary["nnsight"]["share_of_product_rate"] == pytest.approx((10 / 8 / 100 + 10 / 12 / 50) / 2)
    assert summary["nnsight"]["prompts_per_s"] == 0.2


def test_page_shows_every_contender_of_every_job() -> None:
    """The page has a table for each job, a line for each contender that took part, and the conditions."""
    page = page_of({"a": _record({"plain_hooks": [1.0], SUBJECT: [0.5]})}, {"Growth": "x.svg"}, is_quick=True)
    assert "| plain hooks | 1.00 | 2.00 | 2.00 | 2.00 | 1 | 10.0 | 10 % | – | 1 |" in page
    assert "| LayerTracer | 0.50 |" in page
    assert "nnterp" not in page
    assert "torch 2.13" in page
    assert "![Growth](x.svg)" in page


def test_growth_is_drawn_where_there_are_two_sizes(tmp_path: Path) -> None:
    """Two jobs of a growth give a plot, the same bytes each time; one job gives none."""
    records = {str(n): _record({"plain_hooks": [n / 8], SUBJECT: [n / 16]}, n_layers=n) for n in (8, 16)}
    assert write_plots(records, tmp_path, "bench") == {"Growth with layers": "bench-layers.svg"}
    first = (tmp_path / "bench-layers.svg").read_bytes()
    write_plots(records, tmp_path, "bench")
    assert (tmp_path / "bench-layers.svg").read_bytes() == first
    assert write_plots({"8": records["8"]}, tmp_path, "one") == {}


def test_worker_tells_what_went_wrong(tmp_path: Path) -> None:
    """A contender that fails says why, and can be asked again; one whose process ended is noticed."""
    with Worker("plain_hooks") as worker:
        with pytest.raises(BenchmarkError, match=r"plain_hooks failed when it was asked to run:(.|\n)*no_such\.npz"):
            worker.ask("run", inputs=str(tmp_path / "no_such.npz"), outputs="")
        assert set(worker.ask("rate", shapes=[[8, 8]])) == {"gflop_per_s"}
    with pytest.raises(BenchmarkError, match="plain_hooks ended while it was asked to rate"):
        worker.ask("rate", shapes=[[8, 8]])
