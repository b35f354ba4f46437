"""`run.json`: the part of a run that is not a table, with a checksum of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import Audit, Certificate, Check, LayerRecord, SelfCheck
from layertracer.measures import Rounds, certify
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import NON_FINITE, RUN_FORMAT, RUN_FORMAT_VERSION
from layertracer.runs._specs import ModelRecord, TraceSpec, storable_text
from layertracer.runs._summary import summarize_record

_NO_CHECKSUM = "0" * 64
_CHECKSUM = re.compile(rb'^  "sha256": "([0-9a-f]{64})",$', re.MULTILINE)


def to_json_value(value: object) -> object:
    """The value in JSON's own types; mappings sorted by key, non-finite floats as `{"$float": ...}`.

    Raises:
        UsageError: If the value, or something in it, has no JSON form.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, str):
        return storable_text(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != "$float" for key in value):
        return {storable_text(key): to_json_value(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    raise UsageError(
        f"A run can hold JSON values only, got {value!r} of type {type(value).__name__}. Use text, numbers, lists, and "
        "mappings whose keys are text (but not '$float') in the specification, the provenance and the error of a trace."
    )


def _from_json_pairs(pairs: list[tuple[str, Any]]) -> object:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it has a name twice in one object")
    if fields.keys() == {"$float"}:
        if fields["$float"] not in tuple(NON_FINITE):
            raise ValueError('it has a "$float" that is not "nan", "inf" or "-inf"')
        return NON_FINITE[fields["$float"]]
    return {storable_text(name): _storable(value) for name, value in pairs}


def _storable(value: Any) -> Any:
    """The value with its lone surrogates replaced, which no page and no terminal can show."""
    if isinstance(value, str):
        return storable_text(value)
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"it has {name}, which is no JSON")


def build_header(record: TraceRecord, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `run.json`, without its checksum.

    Args:
        record: The trace.
        files: For every table its checksum, size and columns.
    """
    model = {field.name: getattr(record.model, field.name) for field in dataclasses.fields(ModelRecord)}
    spec = {field.name: getattr(record.spec, field.name) for field in dataclasses.fields(TraceSpec)}
    content = {
        "status": record.status,
        "error": record.error,
        "warnings": record.warnings,
        "method": record.method,
        "elapsed_s": record.elapsed_s,
        "n_requested": record.n_requested,
        "plan": record.plan,
        "shape": {
            "n_prompts": record.n_prompts,
            "n_draws": record.n_draws,
            "n_further_draws": [effect.n_draws for effect in record.effects.values()][1:],
            "n_layers": record.n_layers,
            "top_k": int(record.top_ids.shape[2]),
        },
        "layers_without_site": record.layers_without_site,
        "demonstration_sets": record.sampling.units,
        "spec": spec,
        "lenses": [
            {"name": lens.name, "meaning": lens.meaning, "details": lens.details} for lens in record.lenses.values()
        ],
        "model": model | {"layers": [dataclasses.asdict(layer) for layer in record.model.layers]},
        "self_check": dataclasses.asdict(record.self_check),
        "audit": None if record.audit is None else dataclasses.asdict(record.audit),
        **({} if record.certificate is None else {"certificate": dataclasses.asdict(record.certificate)}),
        "provenance": record.provenance,
        "summary": summarize_record(record),
        "files": files,
    }
    head = {"format": RUN_FORMAT, "format_version": RUN_FORMAT_VERSION, "sha256": _NO_CHECKSUM}
    return head | {name: to_json_value(value) for name, value in content.items()}


def encode_header(header: Mapping[str, Any]) -> bytes:
    """The bytes of `run.json`, its checksum filled in."""
    text = json.dumps(header, indent=2, ensure_ascii=True, allow_nan=False)
    blank = text.encode("ascii") + b"\n"
    digest = hashlib.sha256(blank).hexdigest().encode("ascii")
    return blank.replace(_NO_CHECKSUM.encode("ascii"), digest, 1)


def decode_header(content: bytes, *, called: str = RUN_FORMAT) -> dict[str, Any]:
    """The JSON object in the bytes of `run.json`, or of another header; says nothing about its checksum.

    Args:
        content: The bytes.
        called: What it must call itself.

    Raises:
        ValueError: If the bytes are not a JSON object that calls itself so.
    """
    text = content.decode("utf-8")
    header = json.loads(text, object_pairs_hook=_from_json_pairs, parse_constant=_refuse_constant)
    if not isinstance(header, dict) or header.get("format") != called:
        raise ValueError(f'it does not say "format": "{called}"')
    version = header.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError('it has no whole number above 0 at "format_version"')
    return header


def stored_checksum(content: bytes) -> str | None:
    """The checksum that the bytes of `run.json` state, and with it of all files; None where there is none."""
    found = _CHECKSUM.search(content)
    return None if found is None else found.group(1).decode("ascii")


def has_valid_checksum(content: bytes) -> bool:
    """Whether the bytes of `run.json` are those that were written."""
    found = _CHECKSUM.search(content)
    if found is None:
        return False
    start, end = found.span(1)
    blank = content[:start] + _NO_CHECKSUM.encode("ascii") + content[end:]
    return hashlib.sha256(blank).hexdigest().encode("ascii") == found.group(1)


def read_spec(header: Mapping[str, Any]) -> TraceSpec:
    """The specification in a header."""
    fields = header["spec"]
    return TraceSpec(**fields | {name: tuple(fields[name]) for name in ("further_perturbations", "lenses")})


def read_model(header: Mapping[str, Any]) -> ModelRecord:
    """The model in a header."""
    fields = dict(header["model"])
    layers = tuple(LayerRecord(**layer) for layer in fields.pop("layers"))
    return ModelRecord(**fields, layers=layers)


def read_self_check(header: Mapping[str, Any]) -> SelfCheck:
    """The proof at load in a header."""
    fields = dict(header["self_check"])
    checks = tuple(Check(**check) for check in fields.pop("checks"))
    return SelfCheck(**fields | {"checks": checks, "notes": tuple(fields["notes"])})


def read_certificate(header: Mapping[str, Any]) -> Certificate | None:
    """What was certified, made anew of the observations in a header; None where the trace was not to stop by itself.

    What else the header says of it is for people and other programs, and held against this by `layertracer verify`.

    Raises:
        UsageError: If the observations are none, as where a layer was left out before it was out.
    """
    fields = header.get("certificate")
    if fields is None:
        return None
    rounds = Rounds(
        js_bits=tuple(tuple(map(float, observed)) for observed in fields["js_bits"]),
        particles=tuple(fields["particles"]),
        order=tuple(fields["order"]),
        n_prompts=fields["n_prompts"],
    )
    return certify(
        rounds,
        confidence=fields["confidence"],
        ending=fields["ending"],
        n_draws=header["shape"]["n_draws"],
        budget=fields["budget"],
        n_whole=fields["n_whole"],
    )


def read_audit(header: Mapping[str, Any]) -> Audit | None:
    """The audit in a header; None where there was none."""
    fields = header.get("audit")
    return None if fields is None else Audit(**dict(fields) | {"notes": tuple(fields["notes"])})
