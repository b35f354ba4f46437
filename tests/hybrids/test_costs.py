"""Plans of designs: numbers of placements by hand, and that they are near what a search looks at."""

from __future__ import annotations

from typing import Any

import pytest

from layertracer._types import Sample
from layertracer.hybrids._measuring.costs import Asked, plan_costs, searched
from layertracer.tracing import JudgedRow, time_forward

from tests.support.tiny import tiny

ROW = JudgedRow(ids=tuple(range(1, 11)), read=(8,))
ROWS = {"text": (ROW, ROW), "recall": (ROW,)}


def asked(**changed: Any) -> Asked:
    """A question about 30 layers."""
    settings: dict[str, Any] = {"search": "greedy", "n_layers": 30, "sizes": (8,), "n_random": 200, "n_ratio": 10}
    return Asked(**{**settings, "wants_pairs": False, "wants_trace": True, "wants_roles": False, **changed})


class TestPlan:
    """What is planned."""

    def test_stages_are_what_is_asked(self) -> None:
        """Pairs and roles only where they are wanted; no search where singles decide."""

        def names(question: Asked) -> list[str]:
            plan = plan_costs(question, search=ROWS, compared=ROWS, held_out=ROWS, tokens_per_s=100.0)
            return [stage.name for stage in plan.stages]

        assert "search (greedy)" in names(asked())
        assert not any("search" in name for name in names(asked(search="singles")))
        assert "pairs of layers" not in names(asked())
        assert "pairs of layers" in names(asked(wants_pairs=True))
        assert "regions and gates" in names(asked(wants_roles=True))

    def test_seconds_are_tokens_over_speed(self) -> None:
        """Single layers of 30: 61 placements of half a forward and two more, a tenth again, 30 tokens, 100 a second."""
        plan = plan_costs(asked(), search=ROWS, compared=ROWS, held_out=ROWS, tokens_per_s=100.0)
        first = plan.stages[0]
        assert first.n_placements == 61
        assert first.n_forwards == pytest.approx(1.1 * (30.5 + 2) * 3)
        assert first.cpu_s == pytest.approx(1.1 * (30.5 + 2) * 30 / 100)
        assert plan.cpu_s == pytest.approx(sum(stage.cpu_s for stage in plan.stages))
        assert plan.n_rows == {"text": (2, 2), "recall": (1, 1)}
        assert plan.to_dict()["cpu_s"] == pytest.approx(plan.cpu_s, abs=0.1)
        assert "61 placements" in str(plan)

    def test_few_placements_are_all_measured(self) -> None:
        """Of 8 layers, 28 and 70 placements; of 30, more than a hundred steps."""
        assert searched(asked(n_layers=8, sizes=(2, 4)))[0] == 28 + 70
        assert searched(asked(search="exact", n_layers=12, sizes=(3,)))[0] == 220
        assert searched(asked())[0] > 200

    def test_a_forward_is_timed(self) -> None:
        """Tokens a second, more than one and finite."""
        assert 1.0 < time_forward(tiny("llama"), Sample(prompt_ids=ROW.ids)) < 1e9
