"""Runs on a disk: saved whole, read whole or refused."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from layertracer._errors import printable_cause
from layertracer._types import LayerMeasure
from layertracer.runs._columns import Named, describe_columns, named_in
from layertracer.runs._effects import DOMINANT_AXES, EffectRecord, effect_keys
from layertracer.runs._folders.full_paths import expand_home, full_path
from layertracer.runs._folders.whole_folders import write_folder
from layertracer.runs._header import (
    build_header,
    encode_header,
    read_audit,
    read_certificate,
    read_model,
    read_self_check,
    read_spec,
)
from layertracer.runs._lens_records import LensRecord
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import HEADER_FILE
from layertracer.runs._specs import PromptRecord, TraceSpec
from layertracer.runs._tables import LAYER_FIELDS, PROMPT_FIELDS, Sizes, name_parts, tabulate
from layertracer.runs._verification.examine import (
    UNUSABLE,
    Examined,
    Fault,
    damaged,
    examine_files,
    examine_folder,
    reason_of,
)


def save_run(record: TraceRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a trace as a run folder, whole or not at all.

    Laws: `read_run(save_run(record, path)) == record`; the same record gives the same bytes.

    A record that holds what no trace can measure, which `read_run` refuses, is kept all the same, with a warning: a
    finished trace is not lost.

    Args:
        record: The trace; failed and interrupted ones too.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether a run that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, the current folder is gone, or the disk refuses.
        UsageError: If `path` begins with a home folder that the system does not know.
    """
    folder = full_path(Path(path))
    schema = name_parts(record).tables
    tables = tabulate(record, schema)
    sizes = Sizes.of_record(record)
    entries = {
        table.file: {
            "sha256": hashlib.sha256(tables[table.file]).hexdigest(),
            "n_bytes": len(tables[table.file]),
            "n_rows": sizes.n_rows(table) if table.axes else len(record.tokens),
            "columns": describe_columns(table),
        }
        for table in schema
    }
    files = {**tables, HEADER_FILE: encode_header(build_header(record, entries))}
    write_folder(folder, files, overwrite=overwrite)
    _warn_of_faults(folder, files)
    return Path(path).expanduser()


def _warn_of_faults(folder: Path, files: Mapping[str, bytes]) -> None:
    """Read what was written from its bytes, and say where it could not be read again."""
    try:
        faults = examine_files(lambda name, _: files[name], where=str(folder)).faults
    except MemoryError:  # it is written, and whole; what reads it will have more room
        return
    if faults:
        warnings.warn(
            f"The run at {folder} was saved, but {faults[0].file} holds what no trace can measure, so that it will not "
            f"be read: {faults[0].reason}. `layertracer verify` says all of it. If LayerTracer made these numbers, "
            "please report it.",
            stacklevel=3,
        )


def read_run(path: str | Path) -> TraceRecord:
    """Read a run folder.

    Laws: any byte altered in any of its files is noticed; what is read is whole; every number is of its type and within
    its range, as the run format states them.

    Args:
        path: The folder.

    Returns:
        The trace that was saved.

    Raises:
        RunError: If there is no run at `path`.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If the run was written by a newer version of LayerTracer.
    """
    folder = expand_home(Path(path))
    examined = examine_folder(folder)
    if examined.faults:
        raise damaged(str(folder), examined.faults[0], len(examined.faults) - 1)
    try:
        return assemble(examined)
    except UNUSABLE as error:
        fault = Fault(file=HEADER_FILE, reason=f"its fields do not fit the tables ({reason_of(error)})")
        raise damaged(str(folder), fault) from printable_cause(error)


def assemble(examined: Examined) -> TraceRecord:
    """The record of a run that has no faults."""
    header, columns = examined.header, examined.columns
    named, spec = named_in(header), read_spec(header)
    prompts = dict(columns["prompts.parquet"])
    layers = _read_layers(header, columns)
    effects = _read_effects(spec, named, columns)
    first = next(iter(effects.values()))
    tokens = columns["tokens.parquet"]
    return TraceRecord(
        spec=spec,
        model=read_model(header),
        self_check=read_self_check(header),
        provenance=header["provenance"],
        prompts=_read_prompts(prompts, spec, header.get("demonstration_sets")),
        embedding_log_prob=np.array(prompts["embedding_log_prob"], dtype=np.float32),
        js_bits=first.js_bits,
        **{name: getattr(first, name) for name in DOMINANT_AXES},
        tokens=dict(zip(tokens["token_id"], tokens["text"], strict=True)),
        method=header["method"],
        status=header["status"],
        error=header["error"],
        warnings=tuple(header["warnings"]),
        elapsed_s=header["elapsed_s"],
        n_requested=header["n_requested"],
        plan=header.get("plan"),
        audit=read_audit(header),
        certificate=read_certificate(header),
        effects=effects,
        measures={info.name: LayerMeasure(info=info, values=layers[info.name]) for info in named.measures},
        lenses=_read_lenses(header, layers, prompts),
        **{name: layers[name] for name in LAYER_FIELDS},
    )


def _read_layers(header: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    layers, shape = dict(columns["layers.parquet"]), header["shape"]
    by_rank = (shape["n_prompts"], shape["n_layers"], shape["top_k"])
    # Without a prompt, only the header knows the length of the last axis.
    return {
        name: values.reshape(by_rank) if name.endswith(("top_ids", "top_prob")) else values
        for name, values in layers.items()
    }


def _read_effects(spec: TraceSpec, named: Named, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, EffectRecord]:
    rows, dimensions = columns["perturbations.parquet"], columns["dimensions.parquet"]
    return {
        key: EffectRecord(
            key=key,
            perturbation=perturbation,
            rows=rows[key],
            infos={info.name: info for info in named.rows},
            dominant_dimension=dimensions[key]["dominant_dimension"],
            dominant_ratio=dimensions[key]["dominant_ratio"],
            dominant_hit=dimensions[key]["dominant_hit"].T,
        )
        for key, perturbation in zip(effect_keys(spec.perturbations), spec.perturbations, strict=True)
    }


def _read_lenses(
    header: Mapping[str, Any], layers: Mapping[str, Any], prompts: Mapping[str, Any]
) -> dict[str, LensRecord]:
    return {
        lens["name"]: LensRecord(
            **lens,
            embedding_log_prob=np.array(prompts[f"{lens['name']}.embedding_log_prob"], dtype=np.float32),
            **{name: layers[f"{lens['name']}.{name}"] for name in LAYER_FIELDS},
        )
        for lens in header["lenses"]
    }


def _read_prompts(
    columns: Mapping[str, list[Any]], spec: TraceSpec, sets: Sequence[int] | None
) -> tuple[PromptRecord, ...]:
    prompts = []
    fields = [field for field in PROMPT_FIELDS if field in columns]
    rows = list(zip(*(columns[field] for field in fields), strict=True))
    for row, number in zip(rows, [None] * len(rows) if sets is None else sets, strict=True):
        values: dict[str, Any] = dict(zip(fields, row, strict=True)) | {"demonstration_set": number}
        lists = ("prompt_ids", "answer_ids", "target_ids", "other_answer_texts")
        values |= {field: tuple(values[field]) for field in lists if field in values}
        values["other_answer_ids"] = tuple(map(tuple, values.get("other_answer_ids", ())))
        prompt = PromptRecord(**values)
        prompts.append(prompt if "begins" in fields else _with_begins(prompt, spec))
    return tuple(prompts)


def _with_begins(prompt: PromptRecord, spec: TraceSpec) -> PromptRecord:
    """A prompt that was stored when `solved` compared the followed tokens alone: it says no more than it knows."""
    if prompt.solved is None or not prompt.answer_ids:
        return prompt
    n_compared = len(prompt.answer_ids) if spec.target_tokens == "all" else 1
    is_open = prompt.solved and n_compared < len(prompt.answer_ids)
    begins = prompt.top_id == prompt.answer_ids[0]
    return replace(prompt, begins=begins, solved=None if is_open else prompt.solved)
