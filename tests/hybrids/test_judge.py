"""What placements cost on rows, against numbers computed by hand and against plain Transformers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.hybrids._judging.judge import (
    judge,
    leave_out_unsolved,
    row_means,
    solved_prompts,
    why_not_judged,
)
from layertracer.hybrids._judging.rows import Rows, RowSet, TaskRows
from layertracer.tracing import JudgedRow, RowMeasures, make_substituter

from tests.support.tiny import fresh

TEXTS = [(number,) for number in range(12)]
"""Rows of text, all different."""


class Planted:
    """Numbers laid down beforehand in place of a model: one `RowMeasures` a row."""

    def __init__(self, measures: Sequence[RowMeasures]) -> None:
        self.measures = measures

    def measure(self, rows: Sequence[JudgedRow], placements: Sequence[Collection[int]]) -> Sequence[RowMeasures]:
        """What was laid down."""
        assert len(rows) == len(self.measures)
        assert all(len(placements) == len(one.kl_nats) for one in self.measures)
        return self.measures


def row(n_tokens: int, read: Sequence[int]) -> JudgedRow:
    """A row of the tokens 0, 1, 2 and so on."""
    return JudgedRow(ids=tuple(range(n_tokens)), read=tuple(read))


def measured(
    kl: Sequence[Sequence[float]], *, nll: Sequence[Sequence[float]], full_nll: Sequence[float], tops: object = None
) -> RowMeasures:
    """Measures of one row, for each placement."""
    shape = np.shape(kl)
    top_ids = np.full(shape, -1) if tops is None else np.array(tops)
    return RowMeasures(
        kl_nats=np.array(kl, dtype=float),
        nll_nats=np.array(nll, dtype=float),
        full_nll_nats=np.array(full_nll, dtype=float),
        top_ids=top_ids,
        full_top_ids=np.full(shape[1], -1) if tops is None else top_ids[0],
    )


def test_text_is_judged_by_hand_computed_means() -> None:
    """KL is the mean over rows of the means over positions; the loss leaves out a row's last position."""
    nan = math.nan
    rows = RowSet(text=(row(4, (2, 3)), row(3, (2,)), row(5, (2, 3, 4))))
    measures = [
        measured([[1.0, 3.0]], nll=[[2.0, nan]], full_nll=[1.0, nan]),
        measured([[4.0]], nll=[[2.5]], full_nll=[2.0]),
        measured([[0.0, 0.0, 3.0]], nll=[[1.0, 1.0, nan]], full_nll=[2.0, 3.0, nan]),
    ]
    (judgement,) = judge(Planted(measures), rows, [(3, 1)])
    assert judgement.kept == (1, 3)
    assert judgement.kl_nats == pytest.approx((2.0 + 4.0 + 1.0) / 3)
    assert judgement.nll_change == pytest.approx((1.0 + 0.5 - 1.5) / 3)
    assert (judgement.n_rows, judgement.n_positions) == (3, 6)
    assert judgement.accuracy == {}
    assert judgement.kl_interval is not None
    assert 0.0 <= judgement.kl_interval.low < judgement.kl_nats < judgement.kl_interval.high


def test_one_row_has_no_interval() -> None:
    """One row cannot say how far another would lie."""
    measures = [measured([[1.0, 3.0]], nll=[[2.0, 2.0]], full_nll=[1.0, 1.0])]
    (judgement,) = judge(Planted(measures), RowSet(text=(row(5, (2, 3)),)), [()])
    assert (judgement.kl_nats, judgement.kl_interval, judgement.nll_interval) == (2.0, None, None)


def test_without_text_there_is_no_divergence_of_text() -> None:
    """Tasks alone give NaN for text, and a number for the objective."""
    task = TaskRows(name="own", rows=(row(4, (2,)), row(5, (3,))), prompts=(0, 1))
    measures = [
        measured([[0.5]], nll=[[1.0]], full_nll=[1.0], tops=[[3]]),
        measured([[1.5]], nll=[[1.0]], full_nll=[1.0], tops=[[0]]),
    ]
    (judgement,) = judge(Planted(measures), RowSet(tasks=(task,)), [()])
    assert math.isnan(judgement.kl_nats)
    assert math.isnan(judgement.nll_change)
    assert judgement.objective == pytest.approx(1.0)
    assert judgement.accuracy["own"].share == 0.5


def test_an_answer_is_solved_where_each_of_its_tokens_is_the_top_one() -> None:
    """A prompt is solved by any of its answers, all tokens of which are the top ones; KL is of the first answer."""
    task = TaskRows(name="own", rows=(row(5, (2, 3)), row(5, (2,)), row(5, (1, 2))), prompts=(0, 0, 1))
    # Two placements; the tokens that are due are 3 and 4, then 3, then 2 and 3.
    one = measured([[1.0, 2.0], [0.0, 0.0]], nll=[[0.0, 0.0]] * 2, full_nll=[0, 0], tops=[[3, 4], [3, 0]])
    two = measured([[9.0], [9.0]], nll=[[0.0]] * 2, full_nll=[0.0], tops=[[0], [3]])
    three = measured([[3.0, 3.0], [2.0, 0.0]], nll=[[0.0, 0.0]] * 2, full_nll=[0, 0], tops=[[2, 0], [2, 3]])
    rows = RowSet(tasks=(task,))
    solved = solved_prompts(rows, [one, two, three])["own"]
    assert solved.placed.tolist() == [[True, False], [True, True]]
    assert solved.full.tolist() == [True, False]
    first, second = judge(Planted([one, two, three]), rows, [(), (0,)])
    assert (first.accuracy["own"].share, second.accuracy["own"].share) == (0.5, 1.0)
    assert (first.accuracy["own"].full_share, first.accuracy["own"].n_prompts) == (0.5, 2)
    assert first.accuracy["own"].kl_nats == pytest.approx((1.5 + 3.0) / 2)
    assert second.accuracy["own"].kl_nats == pytest.approx((0.0 + 1.0) / 2)


def test_text_and_tasks_are_kept_apart() -> None:
    """Text, then tasks in their order: each kind is judged on its own rows."""
    text = (row(4, (1, 2)), row(4, (1, 2)))
    tasks = tuple(TaskRows(name=name, rows=(row(4, (2,)),) * 2, prompts=(0, 1)) for name in ("a", "b"))
    kls = [(1.0, 1.0), (3.0, 3.0), (5.0,), (7.0,), (9.0,), (11.0,)]
    measures = [measured([kl], nll=[[0.0] * len(kl)], full_nll=[0.0] * len(kl)) for kl in kls]
    (judgement,) = judge(Planted(measures), RowSet(text=text, tasks=tasks), [()])
    found = {name: accuracy.kl_nats for name, accuracy in judgement.accuracy.items()}
    assert (judgement.kl_nats, found) == (2.0, {"a": 6.0, "b": 10.0})
    assert judgement.objective == 2.0 + 8.0


# ---------------------------------------------------------------- intervals


def test_intervals_of_placements_are_paired() -> None:
    """Placements that differ by the same on every row differ by that in both ends of their intervals."""
    values = np.random.default_rng(0).exponential(size=8)
    first, second = row_means(np.array([values, values + 0.25]), TEXTS[:8], seed=3)
    assert first.interval is not None
    assert second.interval is not None
    assert second.interval.low - first.interval.low == pytest.approx(0.25)
    assert second.interval.high - first.interval.high == pytest.approx(0.25)
    assert row_means(np.array([values]), TEXTS[:8], seed=3)[0] == first


def test_copies_make_nothing_surer() -> None:
    """Rows that are copies count as one: several of one row have no interval, and doubled rows that of the rows."""
    values = np.random.default_rng(0).exponential(size=8)
    once = row_means(values[None], TEXTS[:8], seed=0)[0]
    twice = row_means(np.tile(values, 2)[None], TEXTS[:8] * 2, seed=0)[0]
    assert once.interval is not None
    assert twice.interval is not None
    assert (twice.interval.low, twice.interval.high) == pytest.approx((once.interval.low, once.interval.high))
    assert row_means(np.ones((1, 3)), [(1, 2)] * 3, seed=0)[0].interval is None


def test_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    """Of rows drawn from a known distribution, at least nine intervals in ten hold its mean."""
    generator, held = np.random.default_rng(1), 0
    for seed in range(100):
        values = generator.gamma(4.0, 0.25, size=(1, 12))  # of mean 1
        interval = row_means(values, TEXTS[:12], seed=seed)[0].interval
        assert interval is not None
        held += interval.low <= 1.0 <= interval.high
    assert 90 <= held <= 100


# ---------------------------------------------------------------- tasks that say nothing


@pytest.mark.parametrize(
    ("n_solved", "n", "is_judged"), [(7, 32, True), (6, 32, False), (4, 8, True), (3, 8, False), (0, 4, False)]
)
def test_a_task_that_is_hardly_solved_is_not_judged_on(n_solved: int, n: int, is_judged: bool) -> None:
    """Below a fifth of the prompts, or four, a fall could not be seen."""
    task = TaskRows(name="own", rows=(row(4, (2,)),) * n, prompts=tuple(range(n)))
    reason = why_not_judged(task, n_solved)
    assert (reason is None) == is_judged
    assert is_judged or f"The model solves {n_solved} of {n} prompts of 'own'" in str(reason)


def unsolved_rows(*, with_text: bool) -> tuple[Planted, Rows]:
    """Rows with a task of eight prompts of which none is solved."""
    task = TaskRows(name="own", rows=(row(4, (2,)),) * 8, prompts=tuple(range(8)))
    text = (row(4, (2, 3)),) * 2 if with_text else ()
    measures = [measured([[0.0]], nll=[[0.0]], full_nll=[0.0], tops=[[0]])] * 8
    some = RowSet(text=text, tasks=(task,))
    return Planted(measures), Rows(search=some, held_out=some)


def test_what_is_not_solved_is_left_out_and_said() -> None:
    """A task that is not solved leaves the search and the judgement, with a note."""
    planted, rows = unsolved_rows(with_text=True)
    left = leave_out_unsolved(planted, (0, 1), rows)
    assert (left.search.tasks, left.held_out.tasks, len(left.held_out.text)) == ((), (), 2)
    assert left.notes == (
        "The model solves 0 of 8 prompts of 'own': too few for a fall to be seen, so that nothing is judged on it.",
    )


def test_where_nothing_is_left_that_is_an_error() -> None:
    """Where an unsolved task was all there was, there is nothing to judge on."""
    planted, rows = unsolved_rows(with_text=False)
    with pytest.raises(lt.TaskError, match=r"nothing left to measure.* solves 0 of 8 prompts of 'own'.* Give text"):
        leave_out_unsolved(planted, (0, 1), rows)


# ---------------------------------------------------------------- against plain Transformers


def test_a_judgement_is_what_plain_transformers_give() -> None:
    """KL, loss and solved answers of windows equal those of the same configuration, loaded by Transformers."""
    module, size, kept = fresh("qwen3"), 5, (1,)
    n_layers = module.config.num_hidden_layers
    ids = torch.randint(1, 60, (3, 20), generator=torch.Generator().manual_seed(0))
    config = replace_window(module, size, kept, n_layers)
    placed = type(module)(config).eval()
    placed.load_state_dict(module.state_dict())
    with torch.no_grad():
        full_log, placed_log = (
            one(ids, use_cache=False).logits.float().log_softmax(-1).double() for one in (module, placed)
        )
    kl = (full_log.exp() * (full_log - placed_log)).sum(-1)[:, size:]
    nlls = [-log[:, size:-1].gather(-1, ids[:, size + 1 :, None])[..., 0] for log in (full_log, placed_log)]
    rows = RowSet(text=tuple(JudgedRow(ids=tuple(row), read=tuple(range(size, 20))) for row in ids.tolist()))
    substituter = make_substituter(lt.wrap_model(module), lt.Window(size))
    (judgement,) = judge(substituter, rows, [kept])
    assert judgement.kl_nats == pytest.approx(kl.mean().item(), abs=1e-6)
    assert judgement.kl_nats > 1e-4
    assert judgement.nll_change == pytest.approx((nlls[1] - nlls[0]).mean().item(), abs=1e-6)


def replace_window(module: torch.nn.Module, size: int, kept: Sequence[int], n_layers: int) -> object:
    """The configuration with windows in all layers but those kept."""
    types = ["full_attention" if layer in kept else "sliding_attention" for layer in range(n_layers)]
    settings = module.config.to_dict() | {"layer_types": types, "sliding_window": size, "use_sliding_window": True}
    settings.pop("max_window_layers", None)
    return type(module.config)(**settings, attn_implementation="sdpa")


def test_kinds_are_named_once() -> None:
    """Every row belongs to one kind, and the first row of each prompt stands for it."""
    task = TaskRows(name="own", rows=(row(5, (2,)), row(5, (3,)), row(5, (1,))), prompts=(0, 0, 1))
    rows = RowSet(text=(row(4, (2, 3)),), tasks=(task, replace(task, name="other")))
    assert list(rows.by_kind) == ["text", "own", "other"]
    assert rows.by_kind["own"] == (task.rows[0], task.rows[2])
    assert rows.counts == {"text": 1, "own": 2, "other": 2}
    assert rows.rows == tuple(itertools.chain(rows.text, task.rows, task.rows))
