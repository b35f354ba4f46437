"""The run format as data: files, columns, fields. The code and the documentation both follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

RUN_FORMAT = "layertracer-run"
"""What `run.json` says it is."""

RUN_FORMAT_VERSION = 2
"""The version that is written. Every version up to this one can be read."""

HEADER_FILE = "run.json"

LARGEST_HEADER_BYTES = 32 * 2**20
"""The largest `run.json` that is read; that of a trace of 5,000 prompts has less than 1 MiB."""

LARGEST_TABLE_BYTES = 8 * 2**30
"""The largest table that is read."""

MOST_NAMED = 256
"""How many further perturbations, or lenses, a run may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the numbers of a column may be.

    Attributes:
        low: The least; a size by its name, e.g. "d_vocab - 1", where it depends on the run. Minus infinity counts only
            where there is none.
        high: The greatest, likewise.
        allowance: By how much rounding may pass the bounds.
        nan: Where NaN may stand: nowhere, for all prompts and draws of a layer alike, or anywhere.
        order: How the items of a list, or of a column without axes, follow one another.
        distinct: Whether no item of a list occurs twice in it.
        n_items: How many items each list has; a size by its name, e.g. "top_k". None where they differ.
        least_items: The fewest that a list may have.
    """

    low: float | str | None = None
    high: float | str | None = None
    allowance: float = 0.0
    nan: Literal["nowhere", "layer", "anywhere"] = "nowhere"
    order: Literal["ascending", "descending"] | None = None
    distinct: bool = False
    n_items: str | None = None
    least_items: int = 0

    def __str__(self) -> str:
        """In words."""
        low = "-∞" if self.low is None else f"{self.low:g}" if isinstance(self.low, float) else str(self.low)
        high = "∞" if self.high is None else f"{self.high:g}" if isinstance(self.high, float) else str(self.high)
        words = [] if self.low is None and self.high is None else [f"in [{low}, {high}]"]
        words += [f"up to {self.allowance:g} of rounding beyond it"] if self.allowance else []
        words += {"nowhere": [], "layer": ["or NaN for all prompts and draws of a layer"], "anywhere": ["or NaN"]}[
            self.nan
        ]
        words += [self.order] if self.order else []
        words += ["all different"] if self.distinct else []
        words += [f"{self.n_items} of them"] if self.n_items else []
        words += [f"{self.least_items} or more of them"] if self.least_items else []
        return ", ".join(words)


SIZES = ("d_vocab", "d_vocab - 1", "log2(d_vocab)", "d_model - 1", "n_draws", "top_k")
"""What bounds may depend on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name of the column.
        type: "int32", "int64", "float32", "float64", "bool", "string" or "list<...>" of one of them.
        meaning: What it holds.
        unit: Its unit; None where it is no quantity.
        nullable: Whether it may be null.
        optional: Whether it is absent in runs that were stored before there was such a column.
        limits: What its numbers may be; None where anything of the type is right.
    """

    name: str
    type: str
    meaning: str
    unit: str | None = None
    nullable: bool = False
    optional: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One Parquet file.

    Attributes:
        file: Name of the file.
        rows: What a row is.
        axes: The record's axes that index the rows, in their order; empty where rows have an id.
        columns: Its columns; the first ones are the axes.
    """

    file: str
    rows: str
    axes: tuple[str, ...]
    columns: tuple[Column, ...]


_LOG_PROB = Limits(high=0.0, allowance=1e-3)
_PROB = Limits(low=0.0, high=1.0, allowance=1e-4)
_PREDICTED = Limits(low=0.0, high="d_vocab - 1")
_GIVEN = Limits(low=0.0)
"""Tokens that a model reads may be more than those that it predicts."""

EFFECT = Column(
    name="effect", type="int32", meaning="index of the perturbation, in the order in which they were asked for"
)
"""Where a run has several perturbations, the rows of the first one come first, then those of the next."""

_PROMPT = Column(name="prompt", type="int32", meaning="index of the prompt, in the order given")
_DRAW = Column(name="draw", type="int32", meaning="index of the random repetition")
_LAYER = Column(name="layer", type="int32", meaning="index of the decoder layer, from 0")

LAYERS = Table(
    file="layers.parquet",
    rows="prompt × layer",
    axes=("prompt", "layer"),
    columns=(
        _PROMPT,
        _LAYER,
        Column(
            name="target_log_prob",
            type="float32",
            meaning="log-probability of the target after the layer",
            unit="nats",
            limits=_LOG_PROB,
        ),
        Column(
            name="target_rank",
            type="int32",
            meaning="rank of the target after the layer, 1 = top",
            unit="rank",
            limits=Limits(low=1.0, high="d_vocab"),
        ),
        Column(
            name="entropy_bits",
            type="float32",
            meaning="entropy of the distribution after the layer",
            unit="bits",
            limits=Limits(low=0.0, high="log2(d_vocab)", allowance=1e-3),
        ),
        Column(
            name="top_ids",
            type="list<int32>",
            meaning="ids of the most probable tokens after the layer, best first",
            limits=replace(_PREDICTED, distinct=True, n_items="top_k"),
        ),
        Column(
            name="top_prob",
            type="list<float32>",
            meaning="their probabilities",
            unit="probability",
            limits=replace(_PROB, order="descending", n_items="top_k"),
        ),
    ),
)

PERTURBATIONS = Table(
    file="perturbations.parquet",
    rows="prompt × draw × layer",
    axes=("prompt", "draw", "layer"),
    columns=(
        _PROMPT,
        _DRAW,
        _LAYER,
        Column(
            name="js_bits",
            type="float32",
            meaning="JS divergence between the clean and the perturbed output; NaN where the layer has nothing to "
            "perturb at the site",
            unit="bits",
            limits=Limits(low=0.0, high=1.0, allowance=1e-6, nan="layer"),
        ),
    ),
)

PROMPTS = Table(
    file="prompts.parquet",
    rows="prompt",
    axes=("prompt",),
    columns=(
        _PROMPT,
        Column(name="prompt_ids", type="list<int64>", meaning="token ids of the prompt", limits=_GIVEN),
        Column(
            name="answer_ids",
            type="list<int64>",
            meaning="token ids of the answer; empty where there is none",
            limits=_GIVEN,
        ),
        Column(
            name="target_ids",
            type="list<int64>",
            meaning="ids of the tokens whose probability is followed",
            limits=replace(_PREDICTED, least_items=1),
        ),
        Column(
            name="top_id",
            type="int64",
            meaning="the model's own top token at the first position that is read",
            limits=_PREDICTED,
        ),
        Column(name="top_prob", type="float64", meaning="its probability", unit="probability", limits=_PROB),
        Column(
            name="solved",
            type="bool",
            meaning="whether the model gives the whole answer, or one of several: each token the top one, white space "
            "at its beginning left aside; null where there is no answer, and where it is not known. In runs without "
            "the column `begins`, whether the top tokens are those that are followed; it is read as null where that is "
            "true and the answer goes on behind them",
            nullable=True,
        ),
        Column(
            name="prompt_text",
            type="string",
            meaning="text of the prompt; null where only ids were given",
            nullable=True,
        ),
        Column(
            name="answer_text", type="string", meaning="text of the answer; null where there is none", nullable=True
        ),
        Column(
            name="embedding_log_prob",
            type="float32",
            meaning="log-probability of the target read from the embeddings",
            unit="nats",
            limits=_LOG_PROB,
        ),
        Column(
            name="begins",
            type="bool",
            meaning="whether the model's top token is the first one that is followed of the answer, or of one of "
            "several; null where there is no answer",
            nullable=True,
            optional=True,
        ),
        Column(
            name="n_lead",
            type="int32",
            meaning="how many tokens of the answer say nothing of it (white space, pieces of a character) and are read "
            "as the end of the prompt",
            optional=True,
            limits=Limits(low=0.0),
        ),
        Column(
            name="other_answer_ids",
            type="list<list<int64>>",
            meaning="token ids of the other answers that are right",
            optional=True,
            limits=_GIVEN,
        ),
        Column(name="other_answer_texts", type="list<string>", meaning="their texts, where known", optional=True),
    ),
)

DIMENSIONS = Table(
    file="dimensions.parquet",
    rows="layer",
    axes=("layer",),
    columns=(
        _LAYER,
        Column(
            name="dominant_dimension",
            type="int32",
            meaning="the dimension of the largest root mean square at the perturbed site; 0 where none was looked for",
            limits=Limits(low=0.0, high="d_model - 1"),
        ),
        Column(
            name="dominant_ratio",
            type="float32",
            meaning="that root mean square over the median dimension's; NaN where none was looked for, as at the site "
            "state",
            unit="ratio",
            limits=Limits(low=1.0, allowance=1e-3, nan="anywhere"),
        ),
        Column(
            name="dominant_hit",
            type="list<bool>",
            meaning="for every draw, whether it masks that dimension",
            limits=Limits(n_items="n_draws"),
        ),
    ),
)

TOKENS = Table(
    file="tokens.parquet",
    rows="token id that occurs in the run",
    axes=(),
    columns=(
        Column(
            name="token_id",
            type="int64",
            meaning="id of the token, ascending",
            limits=Limits(low=0.0, order="ascending", distinct=True),
        ),
        Column(name="text", type="string", meaning="its text"),
    ),
)

TABLES = (LAYERS, PERTURBATIONS, PROMPTS, DIMENSIONS, TOKENS)

OWN_FILES: frozenset[str] = frozenset({HEADER_FILE, *(table.file for table in TABLES)})
"""Files that belong to a run; anything else in the folder is left alone."""

REPORT_FILE = "report.html"
"""The report beside the run; drawn from it, and not part of the format."""

NON_FINITE: Mapping[str, float] = MappingProxyType({"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")})
"""JSON has no NaN and no infinity: they are written as `{"$float": "nan"}`."""
