"""Known facts end to end on the embedded default model: read, given contrasts, traced, left out with reasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import layertracer as lt

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Russia": "Moscow", "Japan": "Tokyo",
    "China": "Beijing", "Egypt": "Cairo", "Greece": "Athens", "Austria": "Vienna", "Cuba": "Havana", "Iran": "Tehran",
}  # fmt: skip


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of capitals as ROME writes known facts."""
    template = "The capital of {} is the city of"
    records = [
        {"subject": subject, "attribute": answer, "template": template, "prompt": template.format(subject)}
        for subject, answer in CAPITALS.items()
    ]
    path = tmp_path_factory.mktemp("facts") / "capitals.json"
    path.write_text(json.dumps(records))
    return path


@pytest.mark.slow
def test_facts_move_from_the_subject_to_the_last_token(facts: Path, tmp_path: Path) -> None:
    """Early the fact lies at the subject, late at the last token, with swap and with noise alike."""
    model = lt.load_model("smollm2")
    for settings in ({"corrupt": "swap"}, {"corrupt": "noise", "draws": 3}):
        found = lt.causal_trace(model, lt.load_task(facts), **settings, out=tmp_path / settings["corrupt"])  # type: ignore[arg-type]
        used = [index for index in range(12) if index not in {one.prompt for one in found.excluded}]
        assert len(used) >= 6
        subject = found.recovery_by_role.mean[found.recovery_by_role.roles.index("last_subject")]
        last = found.recovery_by_role.mean[found.recovery_by_role.roles.index("last")]
        assert subject[:6].mean() > 0.7
        assert last[:6].mean() < 0.3
        assert last[-3:].mean() > 0.8
        assert abs(subject[-3:].mean()) < 0.1
        np.testing.assert_allclose([found.recovery[i, -1, found.lengths[i] - 1] for i in used], 1.0, atol=1e-3)
        assert found.audit.worst_nats is not None
        assert found.audit.worst_nats < 1e-3
        assert lt.load_causal(tmp_path / settings["corrupt"]) == found
