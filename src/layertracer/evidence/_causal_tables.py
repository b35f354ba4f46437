"""The tables of a causal trace: what of its tree stands in them, taken out of it, and put back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from layertracer.evidence._causal_records import CausalRecord, RoleEffects
from layertracer.runs import CAUSAL, Column, Columns, Table, Tree, to_tree

_PROMPT = Column(name="prompt", type="int32", meaning="index of the prompt, in the order given")
_LAYER = Column(name="layer", type="int32", meaning="index of the decoder layer, from 0")

MOST_CELLS = 2**28
"""The most cells of prompts, layers and positions that are read."""

CELLS = Table(
    file="causal_cells.parquet",
    rows="prompt × layer × position that was patched",
    axes=(),
    columns=(
        _PROMPT,
        _LAYER,
        Column(name="position", type="int32", meaning="index of the token, from 0"),
        Column(
            name="restored_prob",
            type="float32",
            unit="probability",
            meaning="the answer's probability with the cell's value put from one run into the other, mean over draws",
        ),
        Column(
            name="restored_logit_difference",
            type="float32",
            unit="nats",
            meaning="log P(answer) − log P(contrast answer) likewise; NaN where there is no contrast answer",
        ),
    ),
)

PROMPTS = Table(
    file="causal_prompts.parquet",
    rows="prompt",
    axes=(),
    columns=(
        _PROMPT,
        Column(name="n_tokens", type="int64", unit="tokens", meaning="length of the prompt"),
        Column(name="subject_first", type="int64", meaning="first position that is corrupted; −1 where there is none"),
        Column(name="subject_end", type="int64", meaning="the position behind the last one; −1 likewise"),
        Column(
            name="clean_prob",
            type="float32",
            unit="probability",
            meaning="the answer's probability in the clean run; NaN where the sample was excluded before it ran",
        ),
        Column(
            name="corrupted_prob",
            type="float32",
            unit="probability",
            meaning="in the corrupted run, mean over draws; NaN likewise",
        ),
        Column(
            name="clean_logit_difference",
            type="float32",
            unit="nats",
            meaning="log P(answer) − log P(contrast answer) in the clean run; NaN where there is none",
        ),
        Column(
            name="corrupted_logit_difference",
            type="float32",
            unit="nats",
            meaning="in the corrupted run, mean over draws; NaN likewise",
        ),
        Column(
            name="tokens",
            type="list<string>",
            meaning="text of every token; null where there is no tokenizer",
            nullable=True,
        ),
    ),
)

ROLES = Table(
    file="causal_roles.parquet",
    rows='kind of effect ("effect" or "recovery") × role of the token × layer',
    axes=(),
    columns=(
        Column(name="of", type="string", meaning='"effect": the indirect effect; "recovery": its share of the total'),
        Column(name="role", type="string", meaning="what the position is to its prompt"),
        _LAYER,
        Column(name="mean", type="float64", meaning="mean over prompts of each one's mean over positions of the role"),
        Column(name="low", type="float64", meaning="lower end of its interval; NaN where prompts are too few"),
        Column(name="high", type="float64", meaning="upper end of its interval; NaN likewise"),
    ),
)

CAUSAL_TABLES = (CELLS, PROMPTS, ROLES)
"""Every table of a causal trace."""

_BY_ROLE = {"by_role": "effect", "recovery_by_role": "recovery"}
_CURVES = ("mean", "low", "high")
_IN_TABLES = ("clean_prob", "corrupted_prob", "restored_prob", "subject_spans", "lengths", "token_texts")

CAUSAL_FILES = {
    r"(restored_prob|logit_difference\.restored)\b": CELLS.file,
    r"(recovery_)?by_role\.(mean|low|high)\b": ROLES.file,
    r"(clean_prob|corrupted_prob|subject_spans|lengths|token_texts|logit_difference)\b": PROMPTS.file,
}
"""Where fields stand that are in no `causal.json`."""


def causal_file_of(reason: str) -> str:
    """The file in which stands what a sentence begins with."""
    return next((file for form, file in CAUSAL_FILES.items() if re.match(form, reason)), CAUSAL.header)


def take_causal_tables(record: CausalRecord) -> tuple[Tree, dict[str, Columns]]:
    """The tree of a causal trace without what stands in tables, and the columns of each of them, by file."""
    tree = to_tree(record, keep_arrays=True)
    left = {name: value for name, value in tree.items() if name not in _IN_TABLES}
    left["n_positions"] = int(record.restored_prob.shape[2])
    left["logit_difference"] = None if record.logit_difference is None else {}
    for field in _BY_ROLE:
        left[field] = {name: value for name, value in tree[field].items() if name not in _CURVES}
    return left, {
        CELLS.file: _cells_of(record),
        PROMPTS.file: _prompts_of(record),
        ROLES.file: _roles_of({of: getattr(record, field) for field, of in _BY_ROLE.items()}),
    }


def no_causal_tables() -> dict[str, Columns]:
    """The columns of the tables where nothing was traced causally."""
    return {table.file: {column.name: [] for column in table.columns} for table in CAUSAL_TABLES}


def _cells_of(record: CausalRecord) -> Columns:
    """One row a cell that has a number, prompts first."""
    probs, part = record.restored_prob, record.logit_difference
    differences = np.full_like(probs, np.nan) if part is None else part.restored
    where = np.nonzero(~np.isnan(probs) | ~np.isnan(differences))
    places = {name: index.astype(np.int32) for name, index in zip(("prompt", "layer", "position"), where, strict=True)}
    return {**places, "restored_prob": probs[where], "restored_logit_difference": differences[where]}


def _prompts_of(record: CausalRecord) -> Columns:
    n_prompts, part = len(record.lengths), record.logit_difference
    nothing = np.full(n_prompts, np.nan, np.float32)
    return {
        "prompt": np.arange(n_prompts, dtype=np.int32),
        "n_tokens": record.lengths,
        "subject_first": record.subject_spans[:, 0],
        "subject_end": record.subject_spans[:, 1],
        "clean_prob": record.clean_prob,
        "corrupted_prob": record.corrupted_prob,
        "clean_logit_difference": nothing if part is None else part.clean,
        "corrupted_logit_difference": nothing if part is None else part.corrupted,
        "tokens": [list(texts) for texts in record.token_texts] or [None] * n_prompts,
    }


def _roles_of(effects: Mapping[str, RoleEffects]) -> Columns:
    columns: dict[str, list[Any]] = {column.name: [] for column in ROLES.columns}
    for of, effect in effects.items():
        for row, role in enumerate(effect.roles):
            n_layers = effect.mean.shape[1]
            columns["of"] += [of] * n_layers
            columns["role"] += [role] * n_layers
            columns["layer"] += range(n_layers)
            for name in _CURVES:
                columns[name] += getattr(effect, name)[row].tolist()
    return columns


def put_back_causal(left: Tree, tables: Mapping[str, Columns]) -> Tree:
    """The whole tree out of `causal.json` and the tables; what is not of its form raises one of `UNUSABLE`."""
    tree, prompts = dict(left), tables[PROMPTS.file]
    shape = (len(prompts["prompt"]), left["model"]["n_layers"], tree.pop("n_positions"))
    tree["lengths"] = prompts["n_tokens"]
    tree["subject_spans"] = np.stack([prompts["subject_first"], prompts["subject_end"]], axis=1)
    tree["token_texts"] = _token_texts(prompts["tokens"])
    tree |= {name: prompts[name] for name in ("clean_prob", "corrupted_prob")}
    tree["restored_prob"] = _grid(tables[CELLS.file], "restored_prob", shape)
    if left["logit_difference"] is not None:
        tree["logit_difference"] = {
            "clean": prompts["clean_logit_difference"],
            "corrupted": prompts["corrupted_logit_difference"],
            "restored": _grid(tables[CELLS.file], "restored_logit_difference", shape),
        }
    first = 0
    for field in _BY_ROLE:
        n_roles, n_layers = len(left[field]["roles"]), left["model"]["n_layers"]
        rows = slice(first, first + n_roles * n_layers)
        curves = {name: tables[ROLES.file][name][rows].reshape(n_roles, n_layers) for name in _CURVES}
        tree[field] = left[field] | curves
        first = rows.stop
    return tree


def _token_texts(tokens: list[list[str] | None]) -> list[list[str]]:
    known = [texts for texts in tokens if texts is not None]
    if known and len(known) < len(tokens):
        raise ValueError(f"{PROMPTS.file} has the tokens of some prompts and not of others")
    return known


def _grid(cells: Columns, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """The numbers of cells in their places, NaN elsewhere."""
    n_prompts, n_layers, n_positions = shape
    if min(shape) < 0 or n_prompts * n_layers * n_positions > MOST_CELLS:
        raise ValueError(f"it has {n_prompts} × {n_layers} × {n_positions} cells, more than {MOST_CELLS}")
    places = tuple(cells[axis] for axis in ("prompt", "layer", "position"))
    for axis, index, size in zip(("prompt", "layer", "position"), places, shape, strict=True):
        if len(index) and not (index.min() >= 0 and index.max() < size):
            raise ValueError(f"{CELLS.file} has a {axis} beyond the {size} that there are")
    grid = np.full(shape, np.nan, np.float32)
    grid[places] = cells[name]
    return grid
