"""The tables of evidence: what of its tree stands in them, taken out of it, and put back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layertracer.evidence._causal_tables import CAUSAL_FILES, no_causal_tables, put_back_causal, take_causal_tables
from layertracer.evidence._records import Agreement, DoseResponse, EvidenceRecord, Probing
from layertracer.evidence._schema import AGREEMENTS, DOSES, IMPORTANCE, JS, LENSES, PARTICLES, PROBES, TARGET_PROB
from layertracer.runs import EVIDENCE, Columns, Table, Tree, columns_of, deepen, flatten, rows_of, to_tree

_QUALITIES = ("kl_nats", "bias_nats", "top1")
_DOSES = {"js_bits": "fraction", "without_dominant": "without_dominant", "only_dominant": "only_dominant"}
_MEASURED = {"importance": "task", "text_importance": "text"}

_FILES = {
    r"effects\[\d+\]\.js_bits\b": JS.file,
    r"(text_)?importance\..*\.values\b": IMPORTANCE.file,
    r"target_prob\b": TARGET_PROB.file,
    r"lenses\[\d+\]\.(kl_nats|bias_nats|top1)\b": LENSES.file,
    r"particles\[\d+\]\.per_prompt\b": PARTICLES.file,
    r"agreements\b": AGREEMENTS.file,
    r"doses\[\d+\]\.(js_bits|without_dominant|only_dominant)\b": DOSES.file,
    r"probes\b": PROBES.file,
    **{rf"causal\.{form}": file for form, file in CAUSAL_FILES.items()},
}
"""Where fields stand that are in no `evidence.json`."""


def file_of(reason: str) -> str:
    """The file in which stands what a sentence begins with."""
    return next((file for form, file in _FILES.items() if re.match(form, reason)), EVIDENCE.header)


def take_tables(record: EvidenceRecord) -> tuple[Tree, dict[str, Columns]]:
    """The tree of evidence without what stands in tables, and the columns of each of them, by file."""
    causal, columns = (None, no_causal_tables()) if record.causal is None else take_causal_tables(record.causal)
    tree = to_tree(_without_causal(record), keep_arrays=True)
    left = {name: value for name, value in tree.items() if name not in ("target_prob", "agreements", "probes")}
    left["causal"] = causal
    left["target_prob"] = sorted(record.target_prob)
    left["effects"] = [_sized(one, "js_bits") for one in tree["effects"]]
    for field in _MEASURED:
        left[field] = {name: _sized(one, "values") for name, one in tree[field].items()}
    left["particles"] = [_sized(one, "per_prompt") for one in tree["particles"]]
    left["lenses"] = [_without(one, _QUALITIES) for one in tree["lenses"]]
    left["doses"] = [_dose_left(one) for one in tree["doses"]]
    return left, columns | {
        JS.file: _stack(JS, _of_effects(record)),
        IMPORTANCE.file: _stack(IMPORTANCE, _of_measures(record)),
        TARGET_PROB.file: _stack(TARGET_PROB, _of_target_prob(record)),
        LENSES.file: _stack(LENSES, _of_lenses(record)),
        PARTICLES.file: _stack(PARTICLES, _of_particles(record)),
        DOSES.file: _stack(DOSES, _of_doses(record)),
        AGREEMENTS.file: columns_of(AGREEMENTS, map(flatten, record.agreements)),
        PROBES.file: columns_of(PROBES, map(flatten, record.probes)),
    }


def _without_causal(record: EvidenceRecord) -> Mapping[str, Any]:
    """The fields of a record, none of a causal trace, whose cells are too many to be listed."""
    return {name: getattr(record, name) for name in EvidenceRecord.__dataclass_fields__ if name != "causal"}


def _without(tree: Mapping[str, Any], names: Sequence[str]) -> Tree:
    return {name: value for name, value in tree.items() if name not in names}


def _sized(tree: Mapping[str, Any], name: str) -> Tree:
    """Without an array, with its number of prompts."""
    return _without(tree, (name,)) | {"n_prompts": len(tree[name])}


def _dose_left(tree: Mapping[str, Any]) -> Tree:
    """A dose with what it has of the curves, and none of their numbers."""
    return {name: bool(value is not None) if name in _DOSES else value for name, value in tree.items()}


# ---------------------------------------------------------------- rows: blocks of columns, one behind the other


def _stack(table: Table, blocks: Iterator[Columns]) -> Columns:
    """Blocks of rows, one behind the other; a single value stands for as many as the block has rows."""
    parts: dict[str, list[Any]] = {column.name: [] for column in table.columns}
    for block in blocks:
        n_rows = max(len(cells) for cells in block.values() if not isinstance(cells, str | int | float))
        for name, cells in block.items():
            parts[name].append([cells] * n_rows if isinstance(cells, str | int | float) else cells)
    return {name: _joined(one) for name, one in parts.items()}


def _joined(parts: list[Any]) -> Any:
    if parts and all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [cell for part in parts for cell in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _prompts_and_layers(values: np.ndarray, name: str) -> Columns:
    """Numbers of prompts and layers as rows."""
    prompt, layer = np.indices(values.shape, dtype=np.int32)
    return {"prompt": prompt.reshape(-1), "layer": layer.reshape(-1), name: values.reshape(-1)}


def _of_effects(record: EvidenceRecord) -> Iterator[Columns]:
    for index, effect in enumerate(record.effects):
        rows = _prompts_and_layers(effect.js_bits, "js_bits")
        yield {"effect": index, "site": effect.site, "rows": effect.rows, **rows}


def _of_measures(record: EvidenceRecord) -> Iterator[Columns]:
    for field, rows in _MEASURED.items():
        for name, measure in sorted(getattr(record, field).items()):
            yield {"rows": rows, "measure": name, **_prompts_and_layers(measure.values, "value")}


def _of_target_prob(record: EvidenceRecord) -> Iterator[Columns]:
    for lens, curve in sorted(record.target_prob.items()):
        yield {"lens": lens, "layer": _from_embeddings(len(curve)), "target_prob": curve}


def _of_lenses(record: EvidenceRecord) -> Iterator[Columns]:
    for index, lens in enumerate(record.lenses):
        curves = {name: getattr(lens, name) for name in _QUALITIES}
        yield {"number": index, "lens": lens.lens, "layer": _from_embeddings(len(lens.kl_nats)), **curves}


def _from_embeddings(n_rows: int) -> np.ndarray:
    return np.arange(-1, n_rows - 1, dtype=np.int32)


def _of_particles(record: EvidenceRecord) -> Iterator[Columns]:
    for index, one in enumerate(record.particles):
        prompts = np.arange(len(one.per_prompt), dtype=np.int32)
        named = {"number": index, "lens": one.lens, "criterion": one.criterion}
        yield {**named, "prompt": prompts, "layer": list(one.per_prompt)}


def _of_doses(record: EvidenceRecord) -> Iterator[Columns]:
    for index, dose in enumerate(record.doses):
        for masked, fraction, curve in _curves_of(dose):
            layers = np.arange(len(curve), dtype=np.int32)
            named = {"number": index, "site": dose.site, "masked": masked, "fraction": float(fraction)}
            yield {**named, "layer": layers, "js_bits": curve}


def _curves_of(dose: DoseResponse) -> Iterator[tuple[str, float, np.ndarray]]:
    for fraction, curve in zip(dose.fractions, dose.js_bits, strict=True):
        yield "fraction", fraction, curve
    for name in ("without_dominant", "only_dominant"):
        curve = getattr(dose, name)
        if curve is not None:
            yield name, dose.reference, curve


# ---------------------------------------------------------------- and back


class _Rows:
    """The numbers of a column, handed out from the first one on."""

    def __init__(self, columns: Columns, name: str, table: Table) -> None:
        self._values, self._file, self._first = columns[name], table.file, 0

    def take(self, *shape: int) -> Any:
        """The next numbers, in a shape."""
        n_values = int(np.prod(shape, dtype=object))
        if min(shape) < 0 or self._first + n_values > len(self._values):
            raise ValueError(f"{self._file} has {len(self._values)} rows, fewer than the header says")
        taken = self._values[self._first : self._first + n_values]
        self._first += n_values
        return taken.reshape(shape) if isinstance(taken, np.ndarray) else taken


def put_back(left: Tree, tables: Mapping[str, Columns]) -> Tree:
    """The whole tree out of `evidence.json` and the tables; what is not of its form raises one of `UNUSABLE`.

    What rows say of themselves is compared afterwards with what the record would be stored as.
    """
    tree, n_layers = dict(left), left["model"]["n_layers"]
    js, values = _Rows(tables[JS.file], "js_bits", JS), _Rows(tables[IMPORTANCE.file], "value", IMPORTANCE)
    probs, found = _Rows(tables[TARGET_PROB.file], "target_prob", TARGET_PROB), tables[PARTICLES.file]
    layers = _Rows(found, "layer", PARTICLES)
    tree["effects"] = [_unsized(one, "js_bits", js, n_layers) for one in left["effects"]]
    for field in _MEASURED:
        tree[field] = {name: _unsized(left[field][name], "values", values, n_layers) for name in sorted(left[field])}
    tree["target_prob"] = {lens: probs.take(n_layers + 1) for lens in left["target_prob"]}
    tree["particles"] = [_unsized(one, "per_prompt", layers) for one in left["particles"]]
    qualities = {name: _Rows(tables[LENSES.file], name, LENSES) for name in _QUALITIES}
    tree["lenses"] = [
        one | {name: rows.take(n_layers + 1) for name, rows in qualities.items()} for one in left["lenses"]
    ]
    doses = _Rows(tables[DOSES.file], "js_bits", DOSES)
    tree["doses"] = [_dose_back(one, doses, n_layers) for one in left["doses"]]
    tree["agreements"] = [deepen(Agreement, row) for row in rows_of(_as_lists(tables[AGREEMENTS.file]))]
    tree["probes"] = [deepen(Probing, row) for row in rows_of(_as_lists(tables[PROBES.file]))]
    tree["causal"] = None if left["causal"] is None else put_back_causal(left["causal"], tables)
    return tree


def _unsized(left: Tree, name: str, rows: _Rows, *more: int) -> Tree:
    return _without(left, ("n_prompts",)) | {name: rows.take(left["n_prompts"], *more)}


def _dose_back(left: Tree, rows: _Rows, n_layers: int) -> Tree:
    n_rows = {"js_bits": len(left["fractions"]), "without_dominant": 1, "only_dominant": 1}
    taken = {name: rows.take(n, n_layers) if left[name] else None for name, n in n_rows.items()}
    return left | {name: one if one is None or name == "js_bits" else one[0] for name, one in taken.items()}


def _as_lists(columns: Columns) -> Columns:
    return {name: cells.tolist() if isinstance(cells, np.ndarray) else cells for name, cells in columns.items()}
