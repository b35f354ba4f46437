"""Evidence and causal traces on a disk: saved whole, read whole or refused with what is wrong and where."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from layertracer import DamagedRunError, RunError, RunFormatError
from layertracer import evidence as package
from layertracer._types import Interval, LayerMeasure, MeasureInfo
from layertracer.advice import save_advice
from layertracer.evidence import (
    CausalRecord,
    EvidenceRecord,
    read_causal,
    read_evidence,
    same_causal,
    same_evidence,
    save_causal,
    save_evidence,
    verify_causal,
    verify_evidence,
)
from layertracer.evidence._limits import LIMITS, OTHERS
from layertracer.runs import hints_of, read_run, save_run

from tests.runs.alterations import (
    Files,
    alter_header,
    contents,
    parquet_bytes,
    with_column,
    with_header,
    with_table_bytes,
    write_files,
)
from tests.support.limits import numbers_of
from tests.support.records.advice_records import rich_advice
from tests.support.records.causal_records import CAUSAL_RECORDS, make_causal, noisy_causal, rich_causal
from tests.support.records.evidence_records import (
    EVIDENCE_RECORDS,
    bare_evidence,
    large_evidence,
    make_evidence,
    rich_evidence,
)
from tests.support.records.sample_records import make_record

HEADER, CAUSAL_HEADER = "evidence.json", "causal.json"
STORED = Path(__file__).parents[1] / "stored_evidence"


@pytest.fixture(scope="module")
def rich() -> EvidenceRecord:
    """Evidence with every field in use."""
    return rich_evidence()


@pytest.fixture(scope="module")
def files(rich: EvidenceRecord, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Its files."""
    return contents(save_evidence(rich, tmp_path_factory.mktemp("evidence") / "e"))


@pytest.fixture(scope="module")
def causal_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a causal trace."""
    return contents(save_causal(rich_causal(), tmp_path_factory.mktemp("causal") / "c"))


def _refused(files: Files, folder: Path, match: str) -> None:
    with pytest.raises(DamagedRunError, match=match):
        (read_evidence if HEADER in files else read_causal)(write_files(files, folder))


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("name", EVIDENCE_RECORDS)
def test_what_is_read_is_what_was_saved(name: str, tmp_path: Path) -> None:
    """`read_evidence(save_evidence(x))` is x, types and NaN and arrays included, and no warning is given."""
    record = EVIDENCE_RECORDS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_evidence(save_evidence(record, tmp_path / "e"))
    assert same_evidence(again, record)
    assert verify_evidence(tmp_path / "e").is_intact
    assert [one.per_prompt for one in again.particles] == [one.per_prompt for one in record.particles]
    assert [type(one.js_bits) for one in again.effects] == [np.ndarray] * len(record.effects)
    for measure in again.importance.values():
        assert type(measure) is LayerMeasure
        assert measure.values.dtype == np.float32
    assert (again.causal is None) == (record.causal is None)


@pytest.mark.parametrize("name", CAUSAL_RECORDS)
def test_a_causal_trace_is_read_as_it_was_saved(name: str, tmp_path: Path) -> None:
    """`read_causal(save_causal(x))` is x, types and NaN and arrays included, and no warning is given."""
    record = CAUSAL_RECORDS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_causal(save_causal(record, tmp_path / "c"))
    assert same_causal(again, record)
    assert again.restored_prob.dtype == np.float32
    assert again.subject_spans.dtype == np.int64
    np.testing.assert_array_equal(again.indirect_effect, record.indirect_effect)
    assert again.token_texts == record.token_texts
    assert verify_causal(tmp_path / "c" / CAUSAL_HEADER).is_intact


def test_the_same_record_has_the_same_bytes(tmp_path: Path) -> None:
    """Saved twice, once out of its own folder, every file has the same bytes."""
    for name, make in EVIDENCE_RECORDS.items():
        first = contents(save_evidence(make(), tmp_path / name))
        assert first == contents(save_evidence(read_evidence(tmp_path / name), tmp_path / f"{name} again"))
    for name, make_one in CAUSAL_RECORDS.items():
        first = contents(save_causal(make_one(), tmp_path / f"causal {name}"))
        again = save_causal(read_causal(tmp_path / f"causal {name}"), tmp_path / f"causal {name} again")
        assert first == contents(again)


def test_another_number_is_other_evidence(rich: EvidenceRecord) -> None:
    """One number that differs, anywhere, makes two records differ; NaN is NaN."""
    assert same_evidence(rich, rich_evidence())
    js = rich.effects[0].js_bits.copy()
    js[3, 2] += 1e-12
    other = (dataclasses.replace(rich.effects[0], js_bits=js), *rich.effects[1:])
    assert not same_evidence(rich, dataclasses.replace(rich, effects=other))
    causal = rich_causal()
    moved = causal.restored_prob.copy()
    moved[0, 0, 2] += np.float32(1e-6)
    assert not same_causal(causal, dataclasses.replace(causal, restored_prob=moved))


def test_any_altered_byte_is_noticed(files: Files, causal_files: Files, tmp_path: Path) -> None:
    """A byte that is altered in any file, wherever, makes the whole unreadable, and the message names the file."""
    generator = random.Random(0)
    for whole, read in ((files, read_evidence), (causal_files, read_causal)):
        for name in sorted(whole):
            size = len(whole[name])
            for place in sorted({0, size - 1, *(generator.randrange(size) for _ in range(8))}):
                altered = bytearray(whole[name])
                altered[place] ^= 0x11
                folder = tmp_path / f"{len(whole)}-{name}-{place}"
                with pytest.raises((DamagedRunError, RunFormatError), match=name):
                    read(write_files({**whole, name: bytes(altered)}, folder))


def test_tables_are_read_by_anybody(rich: EvidenceRecord, files: Files) -> None:
    """Pandas and json alone find the numbers where the format says that they stand."""
    js = pd.read_parquet(io.BytesIO(files["js.parquet"]))
    on_text = js[(js["site"] == "mixer_output") & (js["rows"] == "text")].pivot(
        index="prompt", columns="layer", values="js_bits"
    )
    effect = next(one for one in rich.effects if (one.site, one.rows) == ("mixer_output", "text"))
    np.testing.assert_array_equal(on_text.to_numpy(), effect.js_bits)
    agreements = pd.read_parquet(io.BytesIO(files["agreements.parquet"]))
    assert agreements["p_holm"].notna().sum() == sum(one.p_holm is not None for one in rich.agreements)
    doses = pd.read_parquet(io.BytesIO(files["doses.parquet"]))
    without = doses[(doses["number"] == 0) & (doses["masked"] == "without_dominant")]["js_bits"]
    assert rich.doses[0].without_dominant is not None
    assert without.tolist() == rich.doses[0].without_dominant.tolist()
    assert json.loads(files[HEADER])["verdicts"][0]["answer"] == rich.verdicts[0].answer


def test_cells_are_read_by_anybody(causal_files: Files) -> None:
    """A cell has a row where, and only where, something was patched."""
    record, cells = rich_causal(), pd.read_parquet(io.BytesIO(causal_files["causal_cells.parquet"]))
    assert len(cells) == int((~np.isnan(record.restored_prob)).sum())
    for row in cells.sample(20, random_state=0).itertuples():
        assert record.restored_prob[row.prompt, row.layer, row.position] == np.float32(row.restored_prob)
    prompts = pd.read_parquet(io.BytesIO(causal_files["causal_prompts.parquet"]))
    assert [list(texts) for texts in prompts["tokens"]] == [list(texts) for texts in record.token_texts]


# ---------------------------------------------------------------- the folder


def test_each_kind_stays_what_it_is(rich: EvidenceRecord, tmp_path: Path) -> None:
    """No kind takes the place of another, whatever is asked, and each says what the other is and what reads it."""
    run = save_run(make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2), tmp_path / "run")
    advice = save_advice(rich_advice(), tmp_path / "advice")
    evidence = save_evidence(rich, tmp_path / "evidence")
    causal = save_causal(rich_causal(), tmp_path / "causal")
    for folder in (run, advice, causal):
        with pytest.raises(RunError, match="and no evidence, so it is not replaced"):
            save_evidence(rich, folder, overwrite=True)
    for folder in (run, advice, evidence):
        with pytest.raises(RunError, match="and no causal trace, so it is not replaced"):
            save_causal(rich_causal(), folder, overwrite=True)
    with pytest.raises(RunError, match=r"is a causal trace, not evidence: .* Read it with load_causal"):
        read_evidence(causal)
    with pytest.raises(RunError, match=r"is evidence, not a causal trace: .* Read it with load_evidence"):
        read_causal(evidence)
    with pytest.raises(RunError, match=r"is evidence, not the run of a trace: .* Read it with load_evidence"):
        read_run(evidence)
    assert same_evidence(read_evidence(evidence), rich)


def test_it_is_replaced_only_where_it_is_asked(rich: EvidenceRecord, tmp_path: Path) -> None:
    """Evidence that lies there stays unless it is to be overwritten; the user's own files stay even then."""
    folder = save_evidence(rich, tmp_path / "e")
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"There is evidence at .* already"):
        save_evidence(bare_evidence(), folder)
    save_evidence(bare_evidence(), folder, overwrite=True)
    assert same_evidence(read_evidence(folder), bare_evidence())
    assert (folder / "mine.txt").read_text() == "mine"


def test_nothing_there(tmp_path: Path) -> None:
    """A path without evidence is refused by what it is."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, match in (
        ("none", "There is no evidence at .*folder that a validation printed, which holds evidence.json"),
        ("file", "is a file, and evidence is a folder"),
        ("empty", "is not evidence: it holds no evidence.json"),
    ):
        with pytest.raises(RunError, match=match):
            read_evidence(tmp_path / name)


@pytest.mark.parametrize("name", [HEADER, "js.parquet", "causal_cells.parquet"])
def test_links_and_pipes_are_no_files_of_ours(name: str, files: Files, tmp_path: Path) -> None:
    """A link to nowhere, or a folder, in the place of a file is refused with its name."""
    folder = write_files({one: content for one, content in files.items() if one != name}, tmp_path / "e")
    (folder / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises((DamagedRunError, RunError), match=name):
        read_evidence(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(DamagedRunError, match=name):
        read_evidence(folder)


@pytest.mark.parametrize("name", [HEADER, "js.parquet", "agreements.parquet", "causal_prompts.parquet"])
def test_a_file_that_is_missing_is_named(name: str, files: Files, tmp_path: Path) -> None:
    """A file that is not there is named."""
    rest = {one: content for one, content in files.items() if one != name}
    with pytest.raises(DamagedRunError, match=f"{name} cannot be used, it is missing"):
        read_evidence(write_files(rest, tmp_path / "e"))


# ---------------------------------------------------------------- files that somebody else made, checksums right


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """What sets a field of the header, by the names on the way to it, to the last one given."""

    def change(header: dict[str, Any]) -> None:
        inner: Any = header
        for name in path[:-2]:
            inner = inner[name]
        inner[path[-2]] = path[-1]

    return change


NAN = {"$float": "nan"}

HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an answer": (_set("verdicts", 0, "answer", "certainly"), r"verdicts\[0\].answer is 'certainly', and must be"),
    "a question twice": (_set("verdicts", 1, "question", "threshold"), "'threshold', which was answered already"),
    "no sentence": (_set("verdicts", 1, "sentence", ""), r"verdicts\[1\].sentence is empty"),
    "a layer beyond": (_set("particles", 0, "layer", 8), r"particles\[0\].layer is layer 8, and the model has 8"),
    "a share that is another": (_set("particles", 0, "share_found", 0.5), "share_found is 0.5, and 0.75"),
    "a rate of nothing": (_set("particles", 0, "n_random", 0), r"false_positive_rate is 0.02, and n_random is 0"),
    "a rate beyond 1": (_set("particles", 0, "false_positive_rate", 1.5), "false_positive_rate is 1.5, and must be"),
    "a rate out of its interval": (_set("particles", 0, "false_positive_rate", 0.9), "is not in its interval"),
    "an interval backwards": (
        _set("particles", 0, "interval", {"low": 5.0, "high": 2.0, "level": 0.95}),
        r"particles\[0\].interval goes from 5 to 2",
    ),
    "an interval beyond": (
        _set("particles", 0, "interval", {"low": 5.0, "high": 9.0, "level": 0.95}),
        r"goes from 5 to 9, beyond \[0, 7\]",
    ),
    "a site of other rows": (_set("effects", 0, "rows", "prose"), 'rows is \'prose\', and must be "task" or "text"'),
    "a layer that is not the largest": (_set("effects", 0, "layer", 7), "the largest mean is that of layer|contenders"),
    "clear among several": (
        lambda h: h["effects"][0].update(is_clear=True, contenders=[0, 1, 2, 3]),
        "is_clear is true, and it has 4",
    ),
    "more prompts than rows": (_set("effects", 0, "n_prompts", 10**9), "fewer than the header says"),
    "prompts below 0": (_set("effects", 0, "n_prompts", -1), "fewer than the header says"),
    "a measure by another name": (
        _set("importance", "skip_js_bits", "info", "name", "other"),
        "importance.skip_js_bits is called 'other'",
    ),
    "a name that is markup": (
        _set("importance", "skip_js_bits", "info", "name", "<b>"),
        "name is '<b>', and must be an identifier",
    ),
    "bounds that exclude it": (
        _set("importance", "skip_js_bits", "info", "high", 0.01),
        r"importance.parquet cannot be used, importance.skip_js_bits.values has a number beyond \[0, 0.01\]",
    ),
    "a share of spread": (_set("variance", 0, "shares", "rest", 0.3), "shares add up to 1.1, and must to 1"),
    "levels of nothing": (_set("variance", 0, "levels", "moons", 3), "levels has 'moons', of which there is no share"),
    "no prompts needed": (_set("prompts_needed", 0, "n_prompts", 0), r"n_prompts is 0, and must be a whole number in"),
    "half a width below 0": (_set("prompts_needed", 0, "measured", "4", -1.0), "measured.4 is -1.0, and must be"),
    "a number of prompts": (
        lambda h: h["prompts_needed"][0]["measured"].update({"four": 1.0}),
        "has 'four', and its names must be whole numbers",
    ),
    "a control's correlation": (_set("controls", 2, "rank_correlation", 1.5), "rank_correlation is 1.5, and must be"),
    "doses out of order": (_set("doses", 0, "fractions", 0, 0.9), "fractions are not ascending"),
    "a reference of nowhere": (_set("doses", 0, "reference", 0.3), "reference is 0.3, which is none of its fractions"),
    "a dose beyond all": (_set("doses", 0, "fractions", 6, 80), r"fractions\[6\] is 80, and must be"),
    "a fallback beyond": (_set("lenses", 1, "fallback", [8]), r"lenses\[1\].fallback is layer 8"),
    "a fidelity beyond 1": (_set("gradient_fidelity", "gradient_mlp", -2.0), "'gradient_mlp' is -2.0, and must be"),
    "a reason beside a trace": (_set("causal_reason", "too long"), "causal_reason must say why"),
    "no reason": (_set("causal", None), "causal_reason must say why|and must be absent|do not go together"),
    "a model of other layers": (_set("causal", "model", "n_layers", 9), "fewer than the header|do not go together"),
    "a corruption": (_set("causal", "corrupt", "prayer"), "causal.corrupt is 'prayer', and must be"),
    "huge positions": (_set("causal", "n_positions", 2**40), "more than 268435456"),
    "positions below 0": (_set("causal", "n_positions", -5), "do not go together"),
    "a share solved": (_set("solved_share", 1.01), "solved_share is 1.01, and must be"),
    "a seed below 0": (_set("seed", -1), "seed is -1"),
    "prompts of NaN": (_set("n_prompts", NAN), "n_prompts is nan, and must be a whole number"),
    "a field missing": (lambda h: h.pop("quick"), "quick is missing"),
    "a field more": (_set("verdicts", 0, "is_sure", True), "has 'is_sure', which is no field of it"),
    "another kind": (_set("kind", "horoscope"), "kind is 'horoscope', and must be \"evidence\""),
    "no layers": (_set("model", "n_layers", 0), "model.n_layers is 0, and must be"),
    "layers that are a text": (_set("model", "n_layers", "8"), "model.n_layers is '8'"),
    "a huge model": (_set("model", "n_layers", 2**31 - 1), "fewer than the header says|model.mixers"),
    "a file elsewhere": (_set("files", "../../etc/passwd", {}), "cannot be used"),
    "a table of negative size": (_set("files", "js.parquet", "n_bytes", -1), "n_bytes is -1"),
    "verdicts that are none": (_set("verdicts", 7), "verdicts is 7|do not go together"),
    "particles that are none": (_set("particles", {"a": 1}), "do not go together"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    """What is out of range or contradicts itself is refused with its place, though every checksum is right."""
    change, match = HEADERS[name]
    _refused(with_header(files, change, name=HEADER), tmp_path / "e", match)


CAUSAL_HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "noise in a swap": (_set("noise_std", 0.5), "noise_std is 0.5, and a swap has no noise"),
    "draws of a swap": (_set("n_draws", 3), "n_draws is 3, and a swap is drawn once"),
    "noise of no scale": (_set("corrupt", "noise"), "noise_scale is null, and the runs were corrupted by noise"),
    "an excluded prompt beyond": (_set("excluded", 1, "prompt", 6), "excluded has prompt 6, and there are 6"),
    "an excluded prompt twice": (_set("excluded", 1, "prompt", 4), "not ascending, each once"),
    "one that has cells": (_set("excluded", 0, "prompt", 0), r"restored_prob\[0\] has numbers, and the sample is"),
    "one that is forgotten": (_set("excluded", []), r"clean_prob\[4\] or corrupted_prob\[4\] is NaN, and the"),
    "a role": (_set("by_role", "roles", 0, "subject"), "by_role.roles has 'subject', which is no role"),
    "a role less": (lambda h: h["by_role"]["roles"].pop(), "causal_roles.parquet|by_role|RoleEffects"),
    "more prompts of a role": (_set("by_role", "n_prompts", 0, 7), r"by_role.n_prompts is 7, and there are 6"),
    "a window of nothing": (_set("window", 0), "window is 0, and must be"),
    "an effect beyond 1": (
        _set("total_effect_interval", {"low": 0.2, "high": 1.4, "level": 0.95}),
        r"total_effect_interval goes from 0.2 to 1.4, beyond \[-1, 1\]",
    ),
    "positions cut off": (_set("n_positions", 9), "has a position beyond the 9 that there are"),
    "no differences": (_set("logit_difference", None), "restored_logit_difference of row 0 is .*, and must be nan"),
    "an audit of NaN cells": (_set("audit", "n_cells", NAN), "audit.n_cells is nan"),
}


@pytest.mark.parametrize("name", CAUSAL_HEADERS)
def test_a_causal_header_that_cannot_be_is_refused(name: str, causal_files: Files, tmp_path: Path) -> None:
    """What is out of range or contradicts itself is refused with its place, though every checksum is right."""
    change, match = CAUSAL_HEADERS[name]
    _refused(with_header(causal_files, change, name=CAUSAL_HEADER), tmp_path / "c", match)


def _put(row: int, value: Any) -> Callable[[list[Any]], None]:
    return lambda values: values.__setitem__(row, value)


CELLS: dict[str, tuple[str, str, Callable[[list[Any]], object], str]] = {
    "JS above 1": ("js.parquet", "js_bits", _put(0, 1.5), r"js.parquet cannot be used, .*js_bits\[0\]\[0\] is 1.5"),
    "JS below 0": ("js.parquet", "js_bits", _put(9, -0.1), r"effects\[0\].js_bits\[1\]\[1\] is -0.1, and must be"),
    "infinite JS": ("js.parquet", "js_bits", _put(0, float("inf")), "is inf, and must be"),
    "another site": ("js.parquet", "site", _put(3, "state"), "site of row 3 is 'state', and must be 'block_output'"),
    "layers out of order": ("js.parquet", "layer", _put(0, 1), "layer of row 0 is 1, and must be 0"),
    "a probability": ("target_prob.parquet", "target_prob", _put(0, 1.2), "target_prob.*is 1.2, and must be"),
    "a KL below 0": ("lenses.parquet", "kl_nats", _put(0, -0.5), r"lenses\[0\].kl_nats\[0\] is -0.5"),
    "a top-1 share": ("lenses.parquet", "top1", _put(0, 2.0), r"lenses.parquet cannot be used, lenses\[0\].top1"),
    "a measure of infinity": (
        "importance.parquet",
        "value",
        _put(0, float("inf")),
        r"importance.parquet cannot be used, importance.'\w+'.values\[0\]\[0\] is inf",
    ),
    "a layer of a prompt": ("particles.parquet", "layer", _put(1, 99), r"per_prompt\[1\] is layer 99"),
    "a layer below 0": ("particles.parquet", "layer", _put(1, -1), r"per_prompt\[1\] is -1, and must be"),
    "a correlation": ("agreements.parquet", "value", _put(0, 1.1), r"agreements\[0\].value is 1.1, and must be"),
    "a p": ("agreements.parquet", "p", _put(0, -0.1), r"agreements\[0\].p is -0.1, and must be"),
    "a correction": ("agreements.parquet", "p_holm", _put(0, 0.0), "a correction makes none smaller"),
    "a p of nothing": ("agreements.parquet", "value", _put(0, None), "has an interval or a p-value, and no value"),
    "one p of two": ("agreements.parquet", "p_holm", _put(0, None), "has one of p and p_holm and not the other"),
    "half an interval": ("agreements.parquet", "interval_low", _put(0, None), "interval.low is null"),
    "a method": ("agreements.parquet", "method", _put(0, "kendall"), "method is 'kendall', and must be"),
    "a dose": ("doses.parquet", "js_bits", _put(0, 2.0), r"doses.parquet cannot be used, doses\[0\].js_bits"),
    "a share that was not asked for": ("doses.parquet", "fraction", _put(0, 0.5), "fraction of row 0 is 0.5, and must"),
    "an accuracy": ("probes.parquet", "accuracy", _put(0, 1.1), r"probes\[0\].accuracy is 1.1"),
    "a selectivity": ("probes.parquet", "selectivity", _put(0, 0.5), "accuracy less control_accuracy is"),
    "a restored probability": (
        "causal_cells.parquet",
        "restored_prob",
        _put(0, -0.5),
        "restored_prob.* is -0.5",
    ),
    "a cell that is lost": (
        "causal_cells.parquet",
        "restored_prob",
        _put(3, float("nan")),
        r"causal_cells.parquet cannot be used, causal.restored_prob\[0\]\[0\]\[\d+\] has none",
    ),
    "a cell before the subject": ("causal_cells.parquet", "position", _put(0, 0), r"\[0\]\[0\]\[0\] has a number"),
    "a cell twice": ("causal_cells.parquet", "position", _put(0, 2), r"\[0\]\[0\]\[1\] has none"),
    "a cell beyond": ("causal_cells.parquet", "layer", _put(0, 8), "has a layer beyond the 8 that there are"),
    "a cell below 0": ("causal_cells.parquet", "prompt", _put(0, -1), "has a prompt beyond the 6 that there are"),
    "a span": ("causal_prompts.parquet", "subject_end", _put(0, 99), r"subject_spans\[0\] goes from 1 to 99"),
    "half a span": ("causal_prompts.parquet", "subject_first", _put(0, -1), r"subject_spans\[0\] goes from -1 to 3"),
    "a token less": (
        "causal_prompts.parquet",
        "tokens",
        _put(0, ["The"]),
        r"causal_prompts.parquet cannot be used, causal.token_texts\[0\] has 1 tokens, and lengths says 11",
    ),
    "tokens of some": ("causal_prompts.parquet", "tokens", _put(0, None), "has the tokens of some prompts and not of"),
    "a clean probability": ("causal_prompts.parquet", "clean_prob", _put(0, 1.5), "causal.clean_prob.*is 1.5"),
    "a difference of nothing": (
        "causal_prompts.parquet",
        "clean_logit_difference",
        _put(4, 1.0),
        r"logit_difference.clean\[4\] has a number, and clean_prob none",
    ),
    "an interval of a role": ("causal_roles.parquet", "low", _put(0, 0.99), "are no intervals"),
    "an effect beyond": ("causal_roles.parquet", "mean", _put(0, 3.0), r"causal.by_role.mean has a number beyond"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_cannot_be_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    """Cells of tables are held to the same ranges and laws, with their places."""
    file, column, change, match = CELLS[name]
    _refused(with_column(files, file, column, change, header_name=HEADER), tmp_path / "e", match)


def test_a_table_of_other_columns_is_refused(files: Files, tmp_path: Path) -> None:
    """A table with other columns, or more rows than it says, is refused by its name."""
    other = with_table_bytes(files, "js.parquet", parquet_bytes(pa.table({"a": [1]})), header_name=HEADER)
    _refused(other, tmp_path / "a", r"js.parquet cannot be used, it has the columns 'a'")
    more = with_table_bytes(files, "js.parquet", files["js.parquet"], n_rows=2**31 - 1, header_name=HEADER)
    _refused(more, tmp_path / "b", "js.parquet cannot be used, it has 1152 rows and must have 2147483647")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 10**5, bytes(range(256)), b'{"format": "layertracer-run"}'])
def test_what_is_no_header_is_refused(text: bytes, files: Files, tmp_path: Path) -> None:
    """Whatever else stands in `evidence.json` is refused with one clear error."""
    _refused({**files, HEADER: text}, tmp_path / "e", "evidence.json cannot be used")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_altered_there_is_one_clear_error(
    seed: int, files: Files, causal_files: Files, tmp_path: Path
) -> None:
    """A header altered anywhere is read as other evidence, or refused with an error of ours; never anything else."""
    told = []
    for number, (whole, name, read) in enumerate(
        ((files, HEADER, read_evidence), (causal_files, CAUSAL_HEADER, read_causal))
    ):
        altered = with_header(whole, lambda header: alter_header(header, random.Random(seed)), name=name)
        folder = write_files(altered, tmp_path / str(number))
        try:
            read(folder)
        except (DamagedRunError, RunFormatError) as error:
            told.append(str(folder) in str(error))
    assert all(told)


def test_a_newer_format_is_refused(files: Files, tmp_path: Path) -> None:
    """Evidence of a later version is refused with what to do."""
    newer = with_header(files, _set("format_version", 99), name=HEADER)
    with pytest.raises(RunFormatError, match=r"has format 99, .* reads formats up to 1. Upgrade LayerTracer"):
        read_evidence(write_files(newer, tmp_path / "e"))


def test_fields_of_later_versions_are_left_alone(rich: EvidenceRecord, files: Files, tmp_path: Path) -> None:
    """A field that is not known beside the others changes nothing."""
    later = with_header(files, _set("horizon", [1, 2]), name=HEADER)
    assert same_evidence(read_evidence(write_files(later, tmp_path / "e")), rich)


def test_evidence_that_contradicts_itself_is_kept_and_said(rich: EvidenceRecord, tmp_path: Path) -> None:
    """Finished work is not lost: what could not be read again is saved with a warning that says where it is wrong."""
    reading = dataclasses.replace(rich.particles[0], interval=Interval(low=6.0, high=3.0))
    broken = dataclasses.replace(rich, particles=(reading, *rich.particles[1:]))
    with pytest.warns(UserWarning, match=r"evidence at .* was saved, but evidence.json contradicts itself.*from 6 to"):
        folder = save_evidence(broken, tmp_path / "e")
    assert (folder / HEADER).is_file()
    found = verify_evidence(folder)
    assert [fault.file for fault in found.faults] == [HEADER]
    assert found.holds == "evidence"


def test_layers_without_the_site_have_no_cells(tmp_path: Path) -> None:
    """Layers that have nothing to patch are NaN for every prompt, and that is no damage; one prompt alone is."""
    record = noisy_causal()
    assert same_causal(read_causal(save_causal(record, tmp_path / "a")), record)
    restored = record.restored_prob.copy()
    restored[0, 4] = np.nan
    with pytest.warns(UserWarning, match=r"restored_prob\[0\]\[4\]\[1\] has none"):
        save_causal(dataclasses.replace(record, restored_prob=restored), tmp_path / "b")


def test_measures_without_bounds(tmp_path: Path) -> None:
    """A measure of no bounds, with NaN and numbers below 0, comes back as it was."""
    values = np.array([[np.nan, -3.5, 1e30], [0.0, np.nan, 7.0]], np.float32)
    info = MeasureInfo(name="dla_mixer", unit="nats", meaning="what the mixer adds to the target's logit")
    record = dataclasses.replace(make_evidence(3, 2), importance={"dla_mixer": LayerMeasure(info=info, values=values)})
    again = read_evidence(save_evidence(record, tmp_path / "e"))
    np.testing.assert_array_equal(again.importance["dla_mixer"].values, values)
    assert again.importance["dla_mixer"].info == info


def test_a_large_one_is_small(tmp_path: Path) -> None:
    """Evidence on 80 layers and 400 prompts takes less than 4 MB."""
    folder = save_evidence(large_evidence(), tmp_path / "e")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000


def test_many_cells_are_read_as_they_were(tmp_path: Path) -> None:
    """A causal trace of 200 prompts with prompts of 40 tokens and 24 layers comes back whole."""
    record = make_causal(24, 200, n_excluded=20, words=tuple(f" w{index}" for index in range(40)))
    assert same_causal(read_causal(save_causal(record, tmp_path / "c")), record)


# ---------------------------------------------------------------- the rules themselves


def test_every_number_has_its_limits() -> None:
    """Every number of a record is held to limits, and none are kept of what is no field of one."""
    assert numbers_of(EvidenceRecord, OTHERS) == set(LIMITS)
    assert numbers_of(CausalRecord, OTHERS) <= set(LIMITS)
    assert all(_is_field(place) for place in OTHERS)


def _is_field(place: str) -> bool:
    from layertracer import _types

    kind, _, field = place.partition(".")
    return field in hints_of(getattr(package, kind, None) or getattr(_types, kind))


# ---------------------------------------------------------------- old formats


def test_version_1_loads_for_ever() -> None:
    """Evidence and causal traces of version 1 load with all their numbers and texts."""
    record = read_evidence(STORED / "v1" / "rich")
    assert len(record.verdicts) == 11
    assert record.verdicts[0].answer == "no"
    assert [one.js_bits.shape for one in record.effects] == [(16, 8)] * 3 + [(32, 8)] * 3
    assert record.particles[0].per_prompt[:3] == (None, 4, 3)
    assert record.doses[0].n_dominant == 3
    assert record.causal is not None
    assert record.causal.token_texts[0][2] == " Needle"
    bare = read_evidence(STORED / "v1" / "bare")
    assert np.isnan(bare.solved_share)
    assert bare.causal_reason.startswith("The task says no subjects")
    causal = read_causal(STORED / "v1" / "causal")
    assert (causal.corrupt, causal.direction, causal.noise_std, causal.window) == ("noise", "noise", 0.41, 3)
    assert np.isnan(causal.restored_prob[:, [2, 7]]).all()
    assert int((~np.isnan(causal.restored_prob)).sum()) == 8 * sum(n - 1 for n in (11, 10, 9, 11, 10))
