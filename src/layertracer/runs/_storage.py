"""Runs on a disk: saved whole, read whole or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.lib import ArrowException

from layertracer._errors import DamagedRunError, RunError, RunFormatError
from layertracer.runs._folder import write_folder
from layertracer.runs._header import (
    build_header,
    decode_header,
    encode_header,
    has_valid_checksum,
    read_audit,
    read_model,
    read_self_check,
    read_spec,
)
from layertracer.runs._record import TraceRecord
from layertracer.runs._recovery import recover_run
from layertracer.runs._schema import HEADER_FILE, OWN_FILES, RUN_FORMAT_VERSION, TABLES
from layertracer.runs._specs import PromptRecord, TraceSpec
from layertracer.runs._tables import PROMPT_FIELDS, decode_table, tabulate
from layertracer.runs._upgrades import StoredRun, upgrade_run


def save_run(record: TraceRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a trace as a run folder, whole or not at all.

    Laws: `read_run(save_run(record, path)) == record`; the same record gives the same bytes.

    Args:
        record: The trace; failed and interrupted ones too.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether a run that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, or the disk refuses.
    """
    folder = Path(path).expanduser().resolve()
    tables = tabulate(record)
    rows = _count_rows(record)
    files = {
        name: {"sha256": _sha256(content), "n_bytes": len(content), "n_rows": rows[name]}
        for name, content in tables.items()
    }
    header = encode_header(build_header(record, files))
    write_folder(folder, {**tables, HEADER_FILE: header}, overwrite=overwrite)
    return Path(path).expanduser()


def read_run(path: str | Path) -> TraceRecord:
    """Read a run folder.

    Laws: any byte altered in any of its files is noticed; what is read is whole.

    Args:
        path: The folder.

    Returns:
        The trace that was saved.

    Raises:
        RunError: If there is no run at `path`.
        DamagedRunError: If a file is missing, cut short or altered; the message names it.
        RunFormatError: If the run was written by a newer version of LayerTracer.
    """
    folder = Path(path).expanduser()
    stored = upgrade_run(_read_stored(folder))
    columns: dict[str, dict[str, Any]] = {}
    for table in TABLES:
        try:
            columns[table.file] = decode_table(table, stored.tables[table.file], _sizes(stored.header))
        except (ArrowException, KeyError, ValueError, OSError) as error:
            raise _damaged(folder, table.file, f"it does not hold what it should ({error})") from error
    try:
        return _assemble(stored.header, columns)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, HEADER_FILE, f"its fields do not fit the tables ({error})") from error


def _sizes(header: Mapping[str, Any]) -> dict[str, int]:
    return {axis: header["shape"][f"n_{axis}s"] for axis in ("prompt", "draw", "layer")}


def _assemble(header: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]) -> TraceRecord:
    prompts = dict(columns["prompts.parquet"])
    embedding = prompts.pop("embedding_log_prob")
    dimensions = columns["dimensions.parquet"]
    tokens = columns["tokens.parquet"]
    layers = dict(columns["layers.parquet"])
    shape = header["shape"]
    for name in ("top_ids", "top_prob"):  # without a prompt, only the header knows the length of the last axis
        layers[name] = layers[name].reshape(shape["n_prompts"], shape["n_layers"], shape["top_k"])
    return TraceRecord(
        spec=read_spec(header),
        model=read_model(header),
        self_check=read_self_check(header),
        provenance=header["provenance"],
        prompts=_read_prompts(prompts, read_spec(header), header.get("demonstration_sets")),
        embedding_log_prob=np.array(embedding, dtype=np.float32),
        js_bits=columns["perturbations.parquet"]["js_bits"],
        dominant_dimension=dimensions["dominant_dimension"],
        dominant_ratio=dimensions["dominant_ratio"],
        dominant_hit=dimensions["dominant_hit"].T,
        tokens=dict(zip(tokens["token_id"], tokens["text"], strict=True)),
        method=header["method"],
        status=header["status"],
        error=header["error"],
        warnings=tuple(header["warnings"]),
        elapsed_s=header["elapsed_s"],
        n_requested=header["n_requested"],
        plan=header.get("plan"),
        audit=read_audit(header),
        **layers,
    )


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


def _count_rows(record: TraceRecord) -> dict[str, int]:
    return {
        "layers.parquet": record.n_prompts * record.n_layers,
        "perturbations.parquet": record.n_prompts * record.n_draws * record.n_layers,
        "prompts.parquet": record.n_prompts,
        "dimensions.parquet": record.n_layers,
        "tokens.parquet": len(record.tokens),
    }


def _read_stored(folder: Path) -> StoredRun:
    """The bytes of a run, every checksum verified."""
    _require_run(folder)
    content = _read_file(folder, HEADER_FILE)
    try:
        header = decode_header(content)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, HEADER_FILE, str(error)) from error
    is_intact = has_valid_checksum(content)
    if header["format_version"] > RUN_FORMAT_VERSION:
        doubt = "" if is_intact else f" (or {HEADER_FILE} was altered: its checksum does not fit)"
        raise RunFormatError(
            f"The run at {folder} has format {header['format_version']}, and this version of LayerTracer reads formats "
            f"up to {RUN_FORMAT_VERSION}{doubt}. Upgrade LayerTracer to read it."
        )
    if not is_intact:
        raise _damaged(folder, HEADER_FILE, "its checksum does not fit its content")
    tables = {}
    for name, entry in header["files"].items():
        tables[name] = _read_file(folder, name)
        if _sha256(tables[name]) != entry["sha256"]:
            found = f"{len(tables[name])} bytes, {entry['n_bytes']} were written"
            raise _damaged(folder, name, f"its checksum does not fit its content ({found})")
    return StoredRun(header=header, tables=tables)


def _require_run(folder: Path) -> None:
    hidden = recover_run(folder)
    if hidden is not None:
        raise RunError(
            f"There is no run at {folder}: a save that was killed left it at {hidden}. Rename it to {folder}."
        )
    if not folder.exists():
        raise RunError(f"There is no run at {folder}. Give the folder that a trace printed, which holds {HEADER_FILE}.")
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, and a run is a folder. Give the folder that holds {HEADER_FILE}.")
    if not any((folder / name).exists() for name in OWN_FILES):
        raise RunError(
            f"{folder} is not a run: it holds no {HEADER_FILE}. Give the folder that a trace printed, e.g. one of "
            "those under runs/."
        )


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise _damaged(folder, name, "it is missing") from error
    except OSError as error:
        raise RunError(
            f"{folder / name} could not be read: {error.strerror or error}. Check its permissions."
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _damaged(folder: Path, name: str, reason: str) -> DamagedRunError:
    return DamagedRunError(
        f"The run at {folder} is damaged: {name} cannot be used, {reason}. A run is read whole or not at all. Restore "
        "the folder from a copy, or run the trace again (run.json, where readable, says with which command)."
    )
