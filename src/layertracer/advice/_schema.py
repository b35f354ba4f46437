"""The format of an advice folder as data: its files, and the columns of its tables."""

from __future__ import annotations

from layertracer.advice._records import Accuracy, Judgement
from layertracer.runs import ADVICE, Column, Table, flat_columns, hints_of

ADVICE_FORMAT = "layertracer-advice"
"""What `advice.json` says it is."""

ADVICE_FORMAT_VERSION = 1
"""The version that is written. Every version up to this one can be read."""

ADVICE_FILE = ADVICE.header

ADVICE_KIND = "design advice"

ADVISED, RATIO = "advised", "ratio"
"""Roles of judged placements beside the names of baselines."""

_ROLE = Column(
    name="role",
    type="string",
    meaning='"advised", "ratio" (of the curve over the number kept), or the name of a baseline',
)
_N_KEPT = Column(name="n_kept", type="int32", meaning="how many layers keep their mixer")


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
