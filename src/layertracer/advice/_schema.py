"""The format of an advice folder as data: its files, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from layertracer._types import Interval
from layertracer.advice._records import Accuracy, Judgement
from layertracer.advice._rules import has_default, hints_of, is_optional, without_none
from layertracer.runs import ADVICE, Column, Table

ADVICE_FORMAT = "layertracer-advice"
"""What `advice.json` says it is."""

ADVICE_FORMAT_VERSION = 1
"""The version that is written. Every version up to this one can be read."""

ADVICE_FILE = ADVICE.header

ADVICE_KIND = "design advice"

LARGEST_ADVICE_BYTES = 32 * 2**20
"""The largest `advice.json` that is read."""

ADVISED, RATIO = "advised", "ratio"
"""Roles of judged placements beside the names of baselines."""

_TYPES = {float: "float64", int: "int64", str: "string"}
_ENDS = tuple(hints_of(Interval))

_ROLE = Column(
    name="role",
    type="string",
    meaning='"advised", "ratio" (of the curve over the number kept), or the name of a baseline',
)
_N_KEPT = Column(name="n_kept", type="int32", meaning="how many layers keep their mixer")


def flat_columns(kind: type, left_out: tuple[str, ...] = (), *, always: tuple[str, ...] = ()) -> Iterator[Column]:
    """The fields of a record as columns; an interval is one for each end and its level, null where there is none.

    Args:
        kind: The record.
        left_out: Fields that have no column.
        always: Fields that every row has; all others are null where only a few things are known.
    """
    for name, hint in hints_of(kind).items():
        if name in left_out:
            continue
        meaning, is_known = f"as in `{kind.__name__}.{name}`", name in always
        is_late = has_default(kind, name)
        plain = without_none(hint) if is_optional(hint) else hint
        if plain is Interval:
            for end in _ENDS:
                yield Column(name=f"{name}_{end}", type="float64", meaning=meaning, nullable=True, optional=is_late)
        else:
            yield Column(name=name, type=_column_type(plain), meaning=meaning, nullable=not is_known, optional=is_late)


def _column_type(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "list<int32>" if get_args(hint)[0] is int else f"list<{_TYPES[get_args(hint)[0]]}>"
    return _TYPES[hint]


SINGLES = Table(
    file="singles.parquet",
    rows="kind of rows × placeable layer",
    axes=(),
    columns=(
        Column(name="rows", type="string", meaning='kind of rows: "text", or the name of a task'),
        Column(name="layer", type="int32", meaning="the layer"),
        Column(
            name="removed_kl_nats",
            type="float64",
            unit="nats",
            nullable=True,
            meaning="KL(full ‖ placed) where that layer alone is substituted",
        ),
        Column(
            name="restored_kl_nats",
            type="float64",
            unit="nats",
            nullable=True,
            meaning="KL(full ‖ placed) where that layer alone is kept",
        ),
        Column(
            name="removed_accuracy",
            type="float64",
            unit="share",
            nullable=True,
            meaning="share of the task's prompts that are solved where that layer alone is substituted",
        ),
        Column(
            name="restored_accuracy",
            type="float64",
            unit="share",
            nullable=True,
            meaning="share that is solved where that layer alone is kept",
        ),
    ),
)

JUDGEMENTS = Table(
    file="judgements.parquet",
    rows="placement",
    axes=(),
    columns=(
        _ROLE,
        _N_KEPT,
        *flat_columns(Judgement, ("accuracy",), always=("kept", "kl_nats")),
        Column(
            name="objective",
            type="float64",
            unit="nats",
            meaning="KL of text plus mean KL of tasks: what placements are compared by",
        ),
    ),
)

ACCURACY = Table(
    file="accuracy.parquet",
    rows="advised placement, or placement of the ratio, and task",
    axes=(),
    columns=(
        _ROLE,
        _N_KEPT,
        Column(name="task", type="string", meaning="name of the task"),
        *flat_columns(Accuracy, always=tuple(hints_of(Accuracy))),
    ),
)

PAIRS = Table(
    file="pairs.parquet",
    rows="placeable layer × placeable layer; none where pairs were not asked for",
    axes=(),
    columns=(
        Column(name="layer", type="int32", meaning="the one layer"),
        Column(name="other", type="int32", meaning="the other one"),
        Column(name="kl_nats", type="float64", unit="nats", meaning="objective where both are substituted"),
        Column(
            name="interaction",
            type="float64",
            unit="nats",
            meaning="that less what each of the two costs alone; 0 where they are the same",
        ),
    ),
)

ADVICE_TABLES = (SINGLES, JUDGEMENTS, ACCURACY, PAIRS)
"""Every table of an advice folder."""
