"""`lt.design` on an embedded trained model: found, saved, gone on with, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layertracer as lt
from layertracer.advice import same_advice
from layertracer.tracing import Progress

from tests.support.tiny import tiny

ROWS = {"search": 3, "compared": 5, "held_out": 6, "tokens": 40}
ASKED: dict[str, Any] = {"keep": (2, 3), "substitute": lt.Window(8), "rows": ROWS, "n_random": 6}
LIGHT: dict[str, Any] = {**ASKED, "keep": 2, "divisions": False, "gates": False, "trace": False}


@pytest.fixture(scope="module")
def model() -> lt.TracedModel:
    """A trained miniature of eight attention layers."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def advice(model: lt.TracedModel) -> lt.Advice:
    """Advice for it, everything measured."""
    return lt.design(model, context=1024, **ASKED)


class TestFound:
    """What a design finds."""

    def test_placements_of_every_size_asked_for(self, advice: lt.Advice) -> None:
        """With cost, standing and share of the cache, by hand: kept layers whole, a window of 8 in the others."""
        assert list(advice.placements) == [2, 3]
        for size, placement in advice.placements.items():
            assert len(placement.layers) == size
            assert placement.kl_nats > 0
            assert 0 <= placement.accuracy["recall"].share <= placement.accuracy["recall"].full_share
            assert placement.n_random in (5, 6)
            assert placement.kv_cache_share == pytest.approx((size * 1024 + (8 - size) * 8) / (8 * 1024))

    def test_they_are_better_than_most(self, advice: lt.Advice) -> None:
        """Of the random ones at most one is better than what was searched for."""
        assert all(placement.percentile <= 20 for placement in advice.placements.values())

    def test_what_carries_recall_is_what_the_trace_names(self, advice: lt.Advice) -> None:
        """The layer whose removal costs recall most is kept."""
        worst = int(np.argmax(advice.singles.removed_kl_nats["recall"]))
        assert all(worst in placement.layers for placement in advice.placements.values())

    def test_the_rest_is_there(self, advice: lt.Advice) -> None:
        """Curve, regions, gates, audit, provenance, what was asked."""
        assert advice.ratio.n_kept == (0, 1, 2, 3, 4, 6, 8)
        assert advice.ratio.judgements[-1].kl_nats == 0.0
        assert advice.divisions.regions
        assert advice.gates.early_exit.agreement[-1] == 1.0
        assert advice.evaluations.audit_cells > 0
        assert advice.evaluations.audit_worst_nats < 1e-4
        assert advice.evaluations.n_compared_rows == {"text": 5, "recall": 5}
        assert advice.spec["keep"] == [2, 3]
        assert "keep 2: layers" in repr(advice)

    def test_no_row_is_in_search_and_judgement(self, advice: lt.Advice) -> None:
        """Counted by kind; the rows themselves are proved distinct where they are made."""
        assert advice.evaluations.n_search_rows == {"text": 3, "recall": 3}
        assert advice.evaluations.n_held_out_rows == {"text": 6, "recall": 6}

    def test_a_number_that_was_not_asked_for_has_no_snippet(self, advice: lt.Advice) -> None:
        """Nor has this model, whose class has no windows by layer, and the reason is there."""
        assert advice.config_snippet(2) is None
        assert advice.snippet_reason
        with pytest.raises(lt.UsageError, match=r"for 5 layers kept, but for 2, 3.*keep=\(5,\)"):
            advice.config_snippet(5)


class TestGoesOn:
    """Interruptions."""

    def test_the_same_call_goes_on_and_finds_the_same(
        self, model: lt.TracedModel, advice: lt.Advice, tmp_path: Path
    ) -> None:
        """After Ctrl-C what was measured is not measured again; then the advice takes the place of the parts."""
        said: list[Progress] = []

        def interrupt(progress: Progress) -> None:
            said.append(progress)
            if progress.stage.startswith("random"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as stop:
            lt.design(model, out=tmp_path / "advice", progress=interrupt, **LIGHT)
        assert "the same call goes on" in stop.value.__notes__[0]
        assert lt.plan_design(model, out=tmp_path / "advice", **LIGHT).n_known > 0
        resumed = lt.design(model, out=tmp_path / "advice", **LIGHT)
        found, whole = resumed.placements[2], advice.placements[2]
        assert (found.layers, found.percentile) == (whole.layers, whole.percentile)
        assert found.kl_nats == pytest.approx(whole.kl_nats, abs=1e-6)  # other placements ran beside: rounding
        assert same_advice(lt.load_advice(tmp_path / "advice"), resumed)
        assert not (tmp_path / "advice" / ".parts").exists()
        with pytest.raises(lt.RunError, match="overwrite"):
            lt.design(model, out=tmp_path / "advice", **LIGHT)

    def test_another_question_is_refused(self, model: lt.TracedModel, tmp_path: Path) -> None:
        """With what differs, and nothing of it lost."""

        def interrupt(progress: Progress) -> None:
            if progress.done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            lt.design(model, out=tmp_path / "advice", progress=interrupt, **LIGHT)
        parts = sorted((tmp_path / "advice" / ".parts").iterdir())
        with pytest.raises(lt.RunError, match=r'substitute was .*"size": 8.* and is .*"size": 9'):
            lt.design(model, out=tmp_path / "advice", **{**LIGHT, "substitute": lt.Window(9)})
        assert sorted((tmp_path / "advice" / ".parts").iterdir()) == parts


class TestRefused:
    """What makes no sense is refused with what would do, before anything is measured."""

    @pytest.mark.parametrize(
        ("asked", "kind", "said"),
        [
            ({"keep": ()}, lt.UsageError, "keep is empty"),
            ({"keep": 8}, lt.UsageError, "must be from 1 to 7"),
            ({"keep": "2"}, lt.UsageError, "keep must be a whole number"),
            ({"substitute": lt.Window(5000)}, lt.UsageError, "hides nothing"),
            ({"substitute": "window"}, lt.UsageError, "substitute must be a Window"),
            ({"text": "too short"}, lt.TaskError, "too short"),
            ({"text": False, "tasks": ()}, lt.UsageError, "nothing to measure placements on"),
            ({"search": "best"}, lt.UnknownNameError, "Unknown search 'best'"),
            ({"budget": "1MiB"}, lt.UsageError, "say how long it is"),
            ({"budget": "1MiB", "context": 100, "keep": 2}, lt.UsageError, "both given"),
            ({"budget": "1kB", "context": 100}, lt.UsageError, "too small"),
            ({"budget": "2GiB", "context": 100}, lt.UsageError, "nothing to choose"),
            ({"rows": {"judge": 3}}, lt.UsageError, "'search', 'compared', 'held_out', 'tokens'"),
            ({"rows": {"search": 0}}, lt.UsageError, "at least 1"),
            ({"seed": -1}, lt.UsageError, "at least 0"),
            ({"n_random": -1}, lt.UsageError, "at least 0"),
            ({"on_plan": 3}, lt.UsageError, "on_plan cannot be"),
        ],
    )
    def test_a_clear_error(
        self, model: lt.TracedModel, asked: dict[str, Any], kind: type[Exception], said: str
    ) -> None:
        """Each says what was got and what would do."""
        with pytest.raises(kind, match=said):
            lt.design(model, **{"substitute": lt.Window(8), "rows": ROWS, **asked})

    def test_a_model_that_solves_no_task_needs_text(self) -> None:
        """A random model solves nothing: without text nothing is left to measure on."""
        asked: dict[str, Any] = {"text": False, "keep": 1, "substitute": lt.Window(3), "rows": ROWS}
        with pytest.raises(lt.TaskError, match="nothing left to measure"):
            lt.design(tiny("llama"), {"echo": _prompts()}, **asked)

    def test_an_encoder_decoder_is_refused(self) -> None:
        """With the reason."""
        with pytest.raises(lt.SiteError, match="decoder-only"):
            lt.design(tiny("encdec:t5"), keep=1, substitute=lt.Window(3), rows=ROWS, tasks=())

    def test_a_model_without_attention_is_refused(self) -> None:
        """A state-space model has no mixer that a window can stand for."""
        with pytest.raises(lt.SiteError, match=r"can stand in no layer|no layer of"):
            lt.design(tiny("mamba"), keep=1, substitute=lt.Window(3), rows=ROWS, tasks=())


def _prompts() -> list[Any]:
    """Prompts of random tokens with an answer that nothing in them says."""
    generator = np.random.default_rng(0)
    return [(tuple(int(one) for one in generator.integers(3, 40, 12)), 3) for _ in range(16)]
