"""`layertracer lens`: fitted, shown, read through, and nothing half kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import layertracer as lt
from layertracer.reports import render_page, render_text
from layertracer.tracing import fit_lens as fit

from tests.cli.conftest import call

_MODEL = "mini/attention"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear lens of a miniature, fitted on the command line."""
    path = tmp_path_factory.mktemp("lenses") / "lens"
    result = call("lens", "fit", _MODEL, "--kind", "linear", "--rows", "9", "--row-tokens", "48", "--out", str(path))
    assert result.exit_code == 0, result.output
    assert "not fitted on" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    return path


def test_what_is_shown_is_what_was_stored(folder: Path) -> None:
    """As a table, the embeddings first, and as JSON."""
    shown = call("lens", "show", str(folder))
    assert shown.exit_code == 0
    assert "emb" in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[:11])) <= 80
    stored = json.loads(call("lens", "show", str(folder), "--json").stdout)
    header = json.loads((folder / "lens.json").read_text())
    assert stored["reports"] == header["reports"]
    assert set(stored["reports"]) == {"linear", "logit"}
    assert len(stored["reports"]["linear"]["kl_nats"]) == 9


def test_a_place_that_is_taken_is_refused_before_the_model_is_loaded(folder: Path) -> None:
    """With what to do; and a folder that is no lens is no lens."""
    again = call("lens", "fit", "no-such-model", "--out", str(folder))
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    nothing = call("lens", "show", str(folder.parent))
    assert nothing.exit_code == 1
    assert "lens.json" in nothing.stderr


def test_ctrl_c_keeps_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of fitting: no folder, and the message says so."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("layertracer.tracing._lens_fitting.fit.report_on", stop)
    out = tmp_path / "lens"
    result = call("lens", "fit", _MODEL, "--kind", "linear", "--rows", "6", "--row-tokens", "32", "--out", str(out))
    assert result.exit_code == 130
    assert "no lens was saved" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_trace_is_read_through_stored_lenses(folder: Path, tmp_path: Path) -> None:
    """`--lens`, repeated; the logit lens beside it; page and terminal say what the lens is worth."""
    run = tmp_path / "run"
    asked = ["--task", "recall", "--limit", "4", "--draws", "1", "--no-audit", "--no-report", "--out", str(run)]
    result = call("trace", _MODEL, *asked, "--lens", str(folder), "--lens", "logit")
    assert result.exit_code == 0, result.output
    trace = lt.load_run(run)
    assert set(trace.lenses) == {"linear"}
    lens = lt.load_lens(folder, _MODEL)
    readout = lt.read_layers(_MODEL, [lt.Sample(prompt_ids=one.prompt_ids) for one in trace.prompts], lens=lens)
    targets = [one.target_ids[0] for one in trace.prompts]
    read = readout.lenses["linear"].log_probs.numpy()
    expected = np.stack([np.exp(read[row, :, target]) for row, target in enumerate(targets)])
    np.testing.assert_allclose(trace.lenses["linear"].target_prob, expected, atol=1e-4)
    assert trace.lenses["linear"].task_particle.layer is not None
    page = render_page(trace)
    assert 'id="lens-quality"' in page
    assert f"{lens.quality.n_tokens:,}" in page
    assert "same top token" in " ".join(render_text(trace, width=80, color=False, ascii_only=False).split())


def test_a_lens_for_another_model_is_refused(folder: Path) -> None:
    """With both sizes or the reason, and no trace."""
    result = call("trace", "mini/hybrid", "--task", "recall", "--limit", "2", "--lens", str(folder), "--out", "nowhere")
    assert result.exit_code == 1
    assert "unembedding" in result.stderr
    assert not Path("nowhere").exists()


def test_a_grid_is_what_each_prefix_alone_reads(folder: Path, tmp_path: Path) -> None:
    """At every position, the top token of `read_layers` on the prompt up to there; page and terminal hold no markup."""
    model = lt.load_model(_MODEL)
    lens = lt.load_lens(folder, model)
    grid = lt.read_grid(model, "hot -> cold ; <b>big ->", lens=lens)
    samples = [lt.Sample(prompt_ids=grid.token_ids[: 1 + at]) for at in range(len(grid.token_ids))]
    readout = lt.read_layers(model, samples, lens=lens)
    for name, one in {"logit": readout, **readout.lenses}.items():
        log_probs = np.concatenate([one.embedding_log_probs[:, None].numpy(), one.log_probs.numpy()], axis=1)
        np.testing.assert_array_equal(grid.readings[name].top_ids, log_probs.argmax(axis=-1).T)
        np.testing.assert_allclose(grid.readings[name].top_prob, np.exp(log_probs.max(axis=-1)).T, atol=1e-4)
        entropy = -(np.exp(log_probs) * np.where(log_probs > -100, log_probs, 0)).sum(axis=-1).T / np.log(2)
        np.testing.assert_allclose(grid.readings[name].entropy_bits, entropy, atol=1e-2)
    page = tmp_path / "grid.html"
    shown = call("lens", "grid", _MODEL, "hot -> <b>cold", "--lens", str(folder), "--report", str(page))
    assert shown.exit_code == 0, shown.output
    assert "logit:" in shown.stdout
    assert "linear:" in shown.stdout
    assert "<b>cold" not in page.read_text()
    values = json.loads(call("lens", "grid", _MODEL, "hot ->", "--json").stdout)
    assert set(values["lenses"]) == {"logit"}


def test_equal_seeds_give_equal_lenses_on_the_command_line_and_in_python(folder: Path) -> None:
    """The stored matrices are those of `fit_lens` with the same numbers."""
    own = fit(lt.load_model(_MODEL), kind="linear", n_rows=9, row_tokens=48)
    assert own.details["fingerprint"] == lt.load_lens(folder, _MODEL).details["fingerprint"]
