"""Stored runs that somebody altered, checksums and all: a command shows what they hold or says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertracer.runs import save_run

from tests.cli.conftest import call
from tests.runs.alterations import contents, with_altered_header, write_files
from tests.support.records.sample_records import make_record


@pytest.mark.parametrize(("first", "n"), [(0, 25), pytest.param(1000, 1000, marks=pytest.mark.slow)])
def test_altered_runs_are_shown_or_refused(first: int, n: int, tmp_path: Path) -> None:
    """Report, comparison and verification of a run with any field altered end in an answer or in one message."""
    record = make_record(n_prompts=3, n_layers=4, n_draws=2, top_k=2, hostile=True)
    files = contents(save_run(record, tmp_path / "run"))
    for seed in range(first, first + n):
        run = write_files(with_altered_header(files, seed), tmp_path / str(seed))
        result = call("report", run, "--out", tmp_path / "page.html")
        assert result.exit_code in (0, 1), (seed, result.stderr)
        if result.exit_code == 1:  # damaged, of a newer format, or of a criterion that only a later version knows
            assert result.stderr.startswith("Error: "), (seed, result.stderr)
            assert "\x1b" not in result.stderr, (seed, result.stderr)
            continue
        compared = call("compare", run, tmp_path / "run", "--resamples", "10", "--allow-mismatch")
        verified = call("verify", run)
        for shown in (result, compared, verified):
            assert "Unexpected" not in shown.stderr, (seed, shown.stderr)
            assert "\x1b" not in shown.stdout, (seed, shown.stdout)
            assert "\u202e" not in shown.stdout, (seed, shown.stdout)
