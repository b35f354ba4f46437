"""Measurements that are made once, and kept on the disk as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer import RunError
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.runs import Checkpoints
from layertracer.tracing import JudgedRow

from tests.hybrids.planted_substituter import PlantedSubstituter

QUESTION = {"model": "planted", "substitute": {"kind": "window", "size": 4, "sinks": 0}, "rows": "abc"}
ROWS = (JudgedRow(ids=(0, 1, *range(30)), read=(20, 21)), JudgedRow(ids=(1, 2, *range(30)), read=(25,)))
PLACEMENTS = [(0, 2), (), (1,), (0, 1, 2, 3)]


def planted() -> PlantedSubstituter:
    """Every layer costs its number plus one."""
    return PlantedSubstituter(4, lambda kept, _: sum(layer + 1.0 for layer in range(4) if layer not in kept))


class TestMeasuredOnce:
    """The memory."""

    def test_what_is_recalled_is_what_was_measured(self) -> None:
        """In the orders asked for, whatever the order in which it was measured, repeated ones included."""
        kept = KeptMeasures(planted(), Checkpoints(None, {}, noun="design"))
        kept.measure(ROWS, PLACEMENTS[:2])
        asked = [*reversed(PLACEMENTS), (1,)]
        found, expected = kept.measure(ROWS, asked), planted().measure(ROWS, asked)
        for one, other in zip(found, expected, strict=True):
            for field in ("kl_nats", "nll_nats", "full_nll_nats", "top_ids", "full_top_ids"):
                np.testing.assert_array_equal(getattr(one, field), getattr(other, field))

    def test_nothing_is_measured_twice(self) -> None:
        """The second call measures what is new alone, and none where there is nothing new."""
        substituter = planted()
        kept = KeptMeasures(substituter, Checkpoints(None, {}, noun="design"))
        kept.measure(ROWS, PLACEMENTS[:3])
        kept.measure(ROWS, PLACEMENTS)
        kept.measure(ROWS[:1], PLACEMENTS)
        assert [len(placements) for _, placements in substituter.calls] == [3, 1]
        assert kept.n_placements == 4

    def test_placements_that_begin_alike_stand_together(self) -> None:
        """What is measured is sorted by its lower layers, so that they are run once for all that share them."""
        substituter = planted()
        KeptMeasures(substituter, Checkpoints(None, {}, noun="design")).measure(ROWS, [(3,), (0, 3), (2,), (0, 2)])
        assert substituter.calls[0][1] == ((3,), (2,), (0, 3), (0, 2))

    def test_progress_counts_cells(self) -> None:
        """Rows times placements, of what was measured just now."""
        said: list[int] = []
        kept = KeptMeasures(planted(), Checkpoints(None, {}, noun="design"), said.append)
        kept.measure(ROWS, PLACEMENTS)
        kept.measure(ROWS, PLACEMENTS)
        assert said == [8]


class TestResumed:
    """The checkpoints."""

    def test_another_call_goes_on_where_one_was_interrupted(self, tmp_path: Path) -> None:
        """What was measured before Ctrl-C is not measured again, and gives the same numbers."""
        first = planted()
        first.fails_after = 2
        kept = KeptMeasures(first, Checkpoints(tmp_path / "out", QUESTION, noun="design"))
        kept.measure(ROWS, PLACEMENTS[:1])
        kept.measure(ROWS, PLACEMENTS[:3])
        with pytest.raises(KeyboardInterrupt):
            kept.measure(ROWS, PLACEMENTS)
        second = planted()
        resumed = KeptMeasures(second, Checkpoints(tmp_path / "out", QUESTION, noun="design"))
        found = resumed.measure(ROWS, PLACEMENTS)
        assert [placements for _, placements in second.calls] == [((0, 1, 2, 3),)]
        np.testing.assert_array_equal(found[0].kl_nats, planted().measure(ROWS, PLACEMENTS)[0].kl_nats)

    def test_a_damaged_part_is_measured_again(self, tmp_path: Path) -> None:
        """Nothing of a file that is not as it was written counts; it is said."""
        KeptMeasures(planted(), Checkpoints(tmp_path, QUESTION, noun="design")).measure(ROWS, PLACEMENTS)
        part = sorted((tmp_path / ".parts").iterdir())[-1]
        part.write_bytes(part.read_bytes()[:-5])
        checkpoints, substituter = Checkpoints(tmp_path, QUESTION, noun="design"), planted()
        KeptMeasures(substituter, checkpoints).measure(ROWS, PLACEMENTS)
        assert len(substituter.calls) == 1
        assert "damaged" in checkpoints.notes[0]

    @pytest.mark.parametrize(
        ("changed", "said"), [({"model": "other"}, 'model was "planted" and is "other"'), ({"rows": "abd"}, "rows was")]
    )
    def test_another_question_is_refused(self, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
        """With what differs; what is there stays."""
        KeptMeasures(planted(), Checkpoints(tmp_path, QUESTION, noun="design")).measure(ROWS, PLACEMENTS)
        before = sorted((tmp_path / ".parts").iterdir())
        with pytest.raises(RunError, match=said):
            Checkpoints(tmp_path, {**QUESTION, **changed}, noun="design")
        assert sorted((tmp_path / ".parts").iterdir()) == before

    def test_other_numbers_are_kept_by_their_sort(self, tmp_path: Path) -> None:
        """What was kept comes back with its words, in order."""
        checkpoints = Checkpoints(tmp_path, QUESTION, noun="design")
        checkpoints.add({"what": "trace", "site": "state"}, {"js": np.arange(3.0)})
        (meta, arrays), *rest = Checkpoints(tmp_path, QUESTION, noun="design").found("trace")
        assert (meta["site"], arrays["js"].tolist(), rest) == ("state", [0.0, 1.0, 2.0], [])

    def test_without_a_folder_nothing_is_kept(self) -> None:
        """And nothing is found."""
        checkpoints = Checkpoints(None, QUESTION, noun="design")
        checkpoints.add({"what": "trace"}, {})
        assert list(checkpoints.found("trace")) == []
