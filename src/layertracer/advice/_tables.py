"""What of an advice's tree stands in tables: taken out of it, and put back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from layertracer.advice._records import Accuracy, AdviceRecord, Baseline, Judgement
from layertracer.advice._schema import ACCURACY, ADVICE_FILE, ADVISED, JUDGEMENTS, PAIRS, RATIO, SINGLES
from layertracer.runs import Columns, Tree, columns_of, deepen, flatten, rows_of, to_tree

_OF_SINGLES = ("removed_kl_nats", "restored_kl_nats", "removed_accuracy", "restored_accuracy")
_OF_PAIRS = ("kl_nats", "interaction")
_OF_BASELINES = ("placements", "objective", "kl_nats")

_FILES = {
    r"singles\.(removed|restored)_": SINGLES.file,
    r"pairs\.(kl_nats|interaction)": PAIRS.file,
    r"(placements\.\d+|ratio)\.(.*\.)?accuracy\.": ACCURACY.file,
    r"placements\.\d+(\.judgement|\.(kl|nll)_interval|:)": JUDGEMENTS.file,
    r"ratio\.(judgements|\d+)": JUDGEMENTS.file,
    r"baselines\.\d+\.[^.]*\.(placements|objective|kl_nats)": JUDGEMENTS.file,
}
"""Where fields stand that are in no `advice.json`."""


def file_of(reason: str) -> str:
    """The file in which stands what a sentence begins with."""
    return next((file for form, file in _FILES.items() if re.match(form, reason)), ADVICE_FILE)


def judged_of(record: AdviceRecord) -> Iterator[tuple[str, Judgement]]:
    """Every judgement of a record with its role: the advised placements by how many they keep, then the ratio."""
    for n_kept in sorted(record.placements):
        judgement = record.placements[n_kept].judgement
        if judgement is not None:
            yield ADVISED, judgement
    for judgement in () if record.ratio is None else record.ratio.judgements:
        yield RATIO, judgement


def take_tables(record: AdviceRecord) -> tuple[Tree, dict[str, Columns]]:
    """The tree of advice without what stands in tables, and the columns of each of them, by file."""
    tree = to_tree(record)
    left = dict(tree)
    left["singles"] = {name: value for name, value in tree["singles"].items() if name not in _OF_SINGLES}
    left["placements"] = {key: _without(one, ("judgement",)) for key, one in tree["placements"].items()}
    left["baselines"] = {
        key: {name: _without(one, (*_OF_BASELINES, "name")) for name, one in named.items()}
        for key, named in tree["baselines"].items()
    }
    if tree["ratio"] is not None:
        left["ratio"] = _without(tree["ratio"], ("judgements",))
    if tree["pairs"] is not None:
        left["pairs"] = _without(tree["pairs"], _OF_PAIRS)
    judged = list(judged_of(record))
    return left, {
        SINGLES.file: columns_of(SINGLES, _single_rows(tree["singles"])),
        JUDGEMENTS.file: columns_of(JUDGEMENTS, _judged_rows(record, judged)),
        ACCURACY.file: columns_of(ACCURACY, _accuracy_rows(judged)),
        PAIRS.file: columns_of(PAIRS, _pair_rows(tree["pairs"])),
    }


def _without(tree: Mapping[str, Any], names: Sequence[str]) -> Tree:
    return {name: value for name, value in tree.items() if name not in names}


def _single_rows(singles: Mapping[str, Any]) -> Iterator[Tree]:
    kinds = sorted({kind for name in _OF_SINGLES for kind in singles[name]})
    for kind in kinds:
        for place, layer in enumerate(singles["layers"]):
            known = {name: singles[name][kind][place] for name in _OF_SINGLES if kind in singles[name]}
            yield {"rows": kind, "layer": layer, **known}


def _judged_rows(record: AdviceRecord, judged: Sequence[tuple[str, Judgement]]) -> Iterator[Tree]:
    for role, judgement in judged:
        flat = flatten(judgement, ("accuracy",))
        yield {"role": role, "n_kept": len(judgement.kept), "objective": judgement.objective, **flat}
    for n_kept in sorted(record.baselines):
        for name in sorted(record.baselines[n_kept]):
            yield from _baseline_rows(n_kept, record.baselines[n_kept][name])


def _baseline_rows(n_kept: int, baseline: Baseline) -> Iterator[Tree]:
    for kept, objective, kl in zip(baseline.placements, baseline.objective, baseline.kl_nats, strict=True):
        known = {"objective": float(objective), "kl_nats": float(kl)}
        yield {"role": baseline.name, "n_kept": n_kept, "kept": list(kept), **known}


def _accuracy_rows(judged: Sequence[tuple[str, Judgement]]) -> Iterator[Tree]:
    for role, judgement in judged:
        for task in sorted(judgement.accuracy):
            flat = flatten(judgement.accuracy[task])
            yield {"role": role, "n_kept": len(judgement.kept), "task": task, **flat}


def _pair_rows(pairs: Mapping[str, Any] | None) -> Iterator[Tree]:
    for row, layer in enumerate(() if pairs is None else pairs["layers"]):
        for column, other in enumerate(pairs["layers"] if pairs is not None else ()):
            cells = {} if pairs is None else {name: pairs[name][row][column] for name in _OF_PAIRS}
            yield {"layer": layer, "other": other, **cells}


def put_back(left: Tree, tables: Mapping[str, Columns]) -> Tree:
    """The whole tree out of `advice.json` and the tables; what is not of its form raises one of `UNUSABLE`."""
    tree = dict(left)
    judged = rows_of(tables[JUDGEMENTS.file])
    solved = rows_of(tables[ACCURACY.file])
    tree["singles"] = left["singles"] | _singles_of(left["singles"]["layers"], tables[SINGLES.file])
    tree["placements"] = {
        key: one | {"judgement": _judgement_of(judged, solved, ADVISED, int(key))}
        for key, one in left["placements"].items()
    }
    tree["baselines"] = {
        key: {name: one | _baseline_of(judged, name, int(key)) for name, one in named.items()}
        for key, named in left["baselines"].items()
    }
    if left["ratio"] is not None:
        found = [_judgement_of(judged, solved, RATIO, n_kept) for n_kept in left["ratio"]["n_kept"]]
        tree["ratio"] = left["ratio"] | {"judgements": found}
    if left["pairs"] is not None:
        tree["pairs"] = left["pairs"] | _pairs_of(left["pairs"]["layers"], tables[PAIRS.file])
    _refuse_rest(left, judged, solved, tables[PAIRS.file])
    return tree


def _singles_of(layers: list[int], columns: Columns) -> Tree:
    """What single layers cost; a kind of rows for which a column is null has nothing there."""
    rows = rows_of(columns)
    kinds = list(dict.fromkeys(row["rows"] for row in rows))
    if [(row["rows"], row["layer"]) for row in rows] != [(kind, layer) for kind in sorted(kinds) for layer in layers]:
        raise ValueError(f"{SINGLES.file} has not one row per {SINGLES.rows}, in their order")
    found: Tree = {name: {} for name in _OF_SINGLES}
    for kind in kinds:
        for name in _OF_SINGLES:
            cells = [row[name] for row in rows if row["rows"] == kind]
            if any(cell is not None for cell in cells):
                found[name][kind] = cells
    return found


def _pairs_of(layers: list[int], columns: Columns) -> Tree:
    rows, n_layers = rows_of(columns), len(layers)
    if [(row["layer"], row["other"]) for row in rows] != [(one, other) for one in layers for other in layers]:
        raise ValueError(f"{PAIRS.file} has not one row per placeable layer and placeable layer, in their order")
    cells = {name: [row[name] for row in rows] for name in _OF_PAIRS}
    return {name: [all_[n_layers * i : n_layers * (i + 1)] for i in range(n_layers)] for name, all_ in cells.items()}


def _judgement_of(judged: list[Tree], solved: list[Tree], role: str, n_kept: int) -> Tree | None:
    """The judgement of a role and a number kept; None where there is none, of an advised placement."""
    found = [row for row in judged if (row["role"], row["n_kept"]) == (role, n_kept)]
    if len(found) > 1 or (not found and role == RATIO):
        raise ValueError(f"{JUDGEMENTS.file} has {len(found)} rows of {role!r} that keep {n_kept} layers, and not one")
    if not found:
        return None
    accuracy = {row["task"]: deepen(Accuracy, row) for row in solved if (row["role"], row["n_kept"]) == (role, n_kept)}
    return deepen(Judgement, found[0]) | {"accuracy": accuracy}


def _baseline_of(judged: list[Tree], name: str, n_kept: int) -> Tree:
    rows = [row for row in judged if (row["role"], row["n_kept"]) == (name, n_kept)]
    columns = {"placements": "kept", "objective": "objective", "kl_nats": "kl_nats"}
    return {"name": name, **{field: [row[column] for row in rows] for field, column in columns.items()}}


def _refuse_rest(left: Tree, judged: list[Tree], solved: list[Tree], pairs: Columns) -> None:
    """Refuse rows of nothing that the advice has, and tasks that stand twice."""
    known = {(ADVISED, int(key)) for key in left["placements"]}
    known |= {(name, int(key)) for key, named in left["baselines"].items() for name in named}
    known |= {(RATIO, n_kept) for n_kept in (() if left["ratio"] is None else left["ratio"]["n_kept"])}
    for table, rows in ((JUDGEMENTS, judged), (ACCURACY, solved)):
        odd = [row for row in rows if (row["role"], row["n_kept"]) not in known]
        if odd:
            raise ValueError(
                f"{table.file} has a row of {odd[0]['role']!r} that keeps {odd[0]['n_kept']} layers, and "
                "advice.json none"
            )
    named = [(row["role"], row["n_kept"], row["task"]) for row in solved]
    if len(set(named)) < len(named):
        raise ValueError(f"{ACCURACY.file} has a task twice for one placement")
    if left["pairs"] is None and pairs["layer"]:
        raise ValueError(f"{PAIRS.file} has rows, and advice.json says that pairs were not asked for")
