"""Values that no trace can have measured are refused with their place, though every checksum fits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layertracer import DamagedRunError
from layertracer.runs import read_run, save_run

from tests.runs.alterations import Files, contents, with_column, with_header, write_files
from tests.support.records.sample_records import make_record

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a run of 3 prompts, 2 draws, 4 layers and 2 top tokens; 49,152 tokens, width 576."""
    return contents(
        save_run(make_record(n_prompts=3, n_layers=4, n_draws=2, top_k=2), tmp_path_factory.mktemp("r") / "r")
    )


def put(value: Any, *place: Any) -> Change:
    """A change that puts a value at a place."""

    def change(values: Any) -> None:
        for step in place[:-1]:
            values = values[step]
        values[place[-1]] = value

    return change


def drop(*place: Any) -> Change:
    """A change that leaves a field out."""

    def change(values: Any) -> None:
        for step in place[:-1]:
            values = values[step]
        del values[place[-1]]

    return change


NAN = math.nan

IN_TABLES = [
    ("perturbations", "js_bits", put(7.5, 11), "js_bits is 7.5 at prompt 1, draw 0, layer 3, and must be in [0, 1]"),
    ("perturbations", "js_bits", put(-1.0, 0), "js_bits is -1 at prompt 0, draw 0, layer 0"),
    ("perturbations", "js_bits", put(1.001, 23), "js_bits is 1.001 at prompt 2, draw 1, layer 3"),
    ("perturbations", "js_bits", put(math.inf, 1), "js_bits is inf at prompt 0, draw 0, layer 1"),
    ("perturbations", "js_bits", put(NAN, 2), "js_bits is nan at prompt 0, draw 0, layer 2, .*NaN for all prompts"),
    ("layers", "target_rank", put(-5, 6), "target_rank is -5 at prompt 1, layer 2, and must be in [1, d_vocab]"),
    ("layers", "target_rank", put(0, 0), "target_rank is 0 at prompt 0, layer 0"),
    ("layers", "target_rank", put(49153, 0), "target_rank is 49153 .* (d_vocab is 49152 here)"),
    ("layers", "target_log_prob", put(0.5, 3), "target_log_prob is 0.5 at prompt 0, layer 3, and must be in [-∞, 0]"),
    ("layers", "target_log_prob", put(NAN, 3), "target_log_prob is nan at prompt 0, layer 3"),
    ("layers", "entropy_bits", put(-0.1, 0), "entropy_bits is -0.1 at prompt 0, layer 0"),
    ("layers", "entropy_bits", put(15.6, 0), "entropy_bits is 15.6 .* (log2(d_vocab) is 15.585 here)"),
    ("layers", "entropy_bits", put(NAN, 0), "entropy_bits is nan"),
    ("layers", "top_prob", put([9.0, 0.1], 4), "top_prob is 9 at prompt 1, layer 0, item 0, and must be in [0, 1]"),
    ("layers", "top_prob", put([0.5, -0.1], 4), "top_prob is -0.1 at prompt 1, layer 0, item 1"),
    ("layers", "top_prob", put([0.1, 0.2], 4), "top_prob is not descending at prompt 1, layer 0"),
    ("layers", "top_prob", put([0.9, 0.9], 4), "top_prob adds up to more than 1 at prompt 1, layer 0"),
    ("layers", "top_prob", put([NAN, 0.1], 4), "top_prob is nan at prompt 1, layer 0, item 0"),
    ("layers", "top_prob", put([0.5], 4), "top_prob has 1 items at prompt 1, layer 0, and must have 2"),
    ("layers", "top_ids", put([-1, 5], 11), "top_ids is -1 at prompt 2, layer 3, item 0"),
    ("layers", "top_ids", put([3, 49152], 11), "top_ids is 49152 at prompt 2, layer 3, item 1"),
    ("layers", "top_ids", put([3, 3], 11), "top_ids names something twice at prompt 2, layer 3"),
    ("layers", "top_ids", put([1, 2, 3], 11), "top_ids has 3 items at prompt 2, layer 3, and must have 2"),
    ("layers", "layer", put(2, 0), "its rows are not one per prompt × layer in their order"),
    ("layers", "prompt", put(9, 5), "its rows are not one per prompt × layer in their order"),
    ("prompts", "top_prob", put(9.0, 1), "top_prob is 9 at prompt 1"),
    ("prompts", "top_id", put(-2, 1), "top_id is -2 at prompt 1"),
    ("prompts", "top_id", put(10**12, 1), "top_id is 1e+12 at prompt 1"),
    ("prompts", "prompt_ids", put([4, -9], 2), "prompt_ids is -9 at prompt 2, item 1"),
    ("prompts", "target_ids", put([49152], 2), "target_ids is 49152 at prompt 2, item 0"),
    ("prompts", "target_ids", put([], 2), "target_ids has 0 items at prompt 2, and must have 1 or more"),
    ("prompts", "embedding_log_prob", put(3.0, 0), "embedding_log_prob is 3 at prompt 0"),
    ("prompts", "n_lead", put(-1, 0), "n_lead is -1 at prompt 0"),
    ("prompts", "n_lead", put(2, 0), "n_lead is more than the answer has tokens at prompt 0"),
    ("prompts", "answer_ids", put([], 1), "solved is not null at prompt 1, where there is no answer"),
    ("prompts", "answer_ids", put([5, -1], 1), "answer_ids is -1 at prompt 1, item 1"),
    ("prompts", "other_answer_ids", put([[1, 2], [3, -4]], 1), "other_answer_ids is -4 at prompt 1, item 3"),
    ("tokens", "token_id", put(-1, 0), "token_id is -1 at row 0"),
    ("dimensions", "dominant_dimension", put(576, 2), "dominant_dimension is 576 at layer 2"),
    ("dimensions", "dominant_dimension", put(-1, 2), "dominant_dimension is -1 at layer 2"),
    ("dimensions", "dominant_ratio", put(0.5, 0), "dominant_ratio is 0.5 at layer 0"),
    ("dimensions", "dominant_hit", put([True], 0), "dominant_hit has 1 items at layer 0, and must have 2"),
    ("tokens", "token_id", put(10**9, 0), "token_id is not ascending at some row"),
    ("tokens", "token_id", put(101, 0), "token_id names something twice at some row"),
]

IN_HEADER = [
    (put("finished", "status"), 'status is \'finished\', and must be "complete" or "interrupted" or "failed"'),
    (put("guess", "method"), "method is 'guess'"),
    (put(-1.0, "elapsed_s"), "elapsed_s is -1.0, and must be a finite number of at least 0"),
    (put({"$float": "inf"}, "elapsed_s"), "elapsed_s is inf"),
    (put("fast", "elapsed_s"), "elapsed_s is 'fast'"),
    (put(2, "n_requested"), "shape.n_prompts is 3, and n_requested is 2"),
    (put(-3, "n_requested"), "n_requested is -3"),
    (put(3.0, "n_requested"), "n_requested is 3.0"),
    (put(True, "n_requested"), "n_requested is true"),
    (put({"type": "X", "message": "y"}, "error"), 'error is an error, and status is "complete"'),
    (put("failed", "status"), 'error is null, and status is "failed"'),
    (put("text", "warnings"), "warnings is 'text', and must be a list"),
    (put([1], "warnings"), "warnings[0] is 1, and must be a text"),
    (put(4, "shape", "n_prompts"), "shape.n_prompts is 4, and n_requested is 3"),
    (put(2, "shape", "n_prompts"), "n_rows is 12, and 8 follow from shape"),
    (put(-1, "shape", "n_draws"), "shape.n_draws is -1"),
    (put(10**10, "shape", "n_draws"), "shape.n_draws is 10000000000"),
    (put(5, "shape", "n_layers"), "shape.n_layers is 5, and model.layers are 4"),
    (put(3, "shape", "top_k"), "top_ids has 2 items at prompt 0, layer 0 (and 11 more), and must have 3"),
    (put(2, "model", "layers", 1, "index"), "model.layers[1].index is 2, and must be 1"),
    (put(7, "model", "layers", 1, "mixer"), "model.layers[1].mixer is 7, and must be a text"),
    (drop("model", "layers", 2, "mlp"), "model.layers[2].mlp is missing"),
    (put(0, "model", "d_vocab"), "model.d_vocab is 0"),
    (put(50, "model", "d_vocab"), "target_rank is .*d_vocab is 50 here"),
    (put(-8, "model", "n_parameters"), "model.n_parameters is -8"),
    (put(None, "model", "name"), "model.name is null, and must be a text"),
    (put(10**100, "model", "d_model"), "model.d_model is a whole number of more than 60 digits"),
    (put("maybe", "self_check", "checks", 0, "passed"), "self_check.checks[0].passed is 'maybe'"),
    (put(-1e-7, "self_check", "checks", 0, "error"), "self_check.checks[0].error is -1e-07"),
    (put("both", "self_check", "method"), "self_check.method is 'both'"),
    (put({"share": 2.0}, "audit"), "audit.n_cells is missing"),
    (put("both", "spec", "target"), "spec.target is 'both'"),
    (put(-1, "spec", "seed"), "spec.seed is -1"),
    (put(0.0, "spec", "perturbation", "fraction"), "spec.perturbation.fraction is 0.0"),
    (put("x", "spec", "perturbation", "draws"), "spec.perturbation.draws is 'x'"),
    (put("small", "spec", "onset", "delta"), "spec.onset.delta is 'small'"),
    (put(7.0, "spec", "onset", "delta"), "spec.onset is no criterion: .* got 7"),
    (drop("spec", "perturbation", "fill"), "spec.perturbation.fill is missing"),
    (put(5, "spec", "perturbation", "draws"), "spec.perturbation.draws is 5, and shape.n_draws is 2"),
    (put(1, "spec", "onset", "name"), "spec.onset is no criterion"),
    (drop("spec", "onset", "kind"), "spec.onset.kind is missing"),
    (put([], "spec", "task"), "spec.task is a list of 0, and must be an object"),
    (put([0, 1], "demonstration_sets"), "demonstration_sets has 2 numbers, and shape.n_prompts is 3"),
    (put([0, "b", 1], "demonstration_sets"), "demonstration_sets[1] is 'b'"),
    (put([9], "layers_without_site"), "layers_without_site names layer 9"),
    (put([], "provenance", "packages"), "provenance.packages is a list of 0"),
    (put(5, "plan"), "plan is 5, and must be an object, or null"),
    (put({"seconds": "long"}, "plan"), "plan.seconds is 'long'"),
    (put(None, "summary"), "summary is null"),
    (put(12, "files", "tokens.parquet", "n_bytes"), "tokens.parquet cannot be used, its checksum does not fit"),
    (put(13, "files", "layers.parquet", "n_rows"), "files.layers.parquet.n_rows is 13, and 12 follow from shape"),
    (put("x", "files", "layers.parquet", "sha256"), "files.layers.parquet.sha256 is 'x', and must be 64 hexadecimal"),
    (drop("files", "layers.parquet"), "files.layers.parquet is missing"),
    (drop("shape"), "shape is missing"),
    (drop("format"), 'it does not say "format": "layertracer-run"'),
    (put(1.0, "format_version"), "no whole number above 0"),
    (put(True, "format_version"), "no whole number above 0"),
]


def _words(text: str) -> str:
    """A pattern in which only `.*` is one."""
    return ".*".join(map(re.escape, text.split(".*")))


@pytest.mark.parametrize(("table", "column", "change", "words"), IN_TABLES, ids=[one[3][:60] for one in IN_TABLES])
def test_impossible_numbers_of_a_table(
    table: str, column: str, change: Change, words: str, run: Files, tmp_path: Path
) -> None:
    """A number out of its range, order or place is refused with the file, the column, the place and what is allowed."""
    write_files(with_column(run, f"{table}.parquet", column, change), tmp_path / "altered")
    with pytest.raises(DamagedRunError, match=rf"is damaged: {table}\.parquet cannot be used, .*{_words(words)}"):
        read_run(tmp_path / "altered")


@pytest.mark.parametrize(("change", "words"), IN_HEADER, ids=[one[1][:60] for one in IN_HEADER])
def test_impossible_fields_of_the_header(change: Change, words: str, run: Files, tmp_path: Path) -> None:
    """A field of another type, out of range or at odds with another is refused with its name and what it must be."""
    write_files(with_header(run, change), tmp_path / "altered")
    with pytest.raises(DamagedRunError, match=_words(words)):
        read_run(tmp_path / "altered")


def test_the_same_run_unaltered_is_read(run: Files, tmp_path: Path) -> None:
    """Checksums made anew over what was there are no reason to refuse."""
    same = with_column(with_header(run, lambda _: None), "layers.parquet", "target_rank", lambda _: None)
    assert read_run(write_files(same, tmp_path / "same")) == make_record(n_prompts=3, n_layers=4, n_draws=2, top_k=2)


def test_rounding_is_allowed_for(run: Files, tmp_path: Path) -> None:
    """Values that rounding can bring just beyond a bound are read."""
    files = with_column(run, "perturbations.parquet", "js_bits", put(1.0000001, 0))
    files = with_column(files, "layers.parquet", "target_log_prob", put(1e-6, 0))
    files = with_column(files, "layers.parquet", "entropy_bits", put(-1e-6, 0))
    assert read_run(write_files(files, tmp_path / "run")).entropy_bits[0, 0] < 0


def test_what_traces_do_write_at_the_edge_is_read(run: Files, tmp_path: Path) -> None:
    """Log-probabilities of minus infinity, layers of NaN, ratios of infinity, equal probabilities: all are read."""
    files = with_column(run, "layers.parquet", "target_log_prob", put(-math.inf, 0))
    files = with_column(files, "layers.parquet", "top_prob", put([0.25, 0.25], 0))
    files = with_column(files, "dimensions.parquet", "dominant_ratio", put(math.inf, 0))

    def lose_layer(values: list[float]) -> None:
        values[2::4] = [NAN] * len(values[2::4])

    files = with_column(files, "perturbations.parquet", "js_bits", lose_layer)
    assert read_run(write_files(files, tmp_path / "run")).layers_without_site == (2,)


def test_a_record_that_cannot_be_read_again_is_kept_with_a_warning(tmp_path: Path) -> None:
    """What no trace can measure is written all the same, and the warning says that it will not be read, and why."""
    record = make_record(n_prompts=2, n_layers=3)
    record.provenance["packages"] = 5  # type: ignore[index]
    with pytest.warns(UserWarning, match=r"was saved, but run\.json holds .*provenance\.packages is 5"):
        path = save_run(record, tmp_path / "run")
    assert (path / "layers.parquet").exists()
    with pytest.raises(DamagedRunError, match=r"provenance\.packages is 5"):
        read_run(path)
