"""The run format as data: files, columns, fields. The code and the documentation both follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

RUN_FORMAT = "layertracer-run"
"""What `run.json` says it is."""

RUN_FORMAT_VERSION = 1
"""The version that is written. Every version up to this one can be read."""

HEADER_FILE = "run.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name of the column.
        type: "int32", "int64", "float32", "float64", "bool", "string" or "list<...>" of one of them.
        meaning: What it holds, with its unit.
        nullable: Whether it may be null.
        optional: Whether it is absent in runs that were stored before there was such a column.
    """

    name: str
    type: str
    meaning: str
    nullable: bool = False
    optional: bool = False


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


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderField:
    """One field of `run.json`.

    Attributes:
        name: Name; a dot separates the name of a nested field.
        type: JSON type.
        meaning: What it holds, with its unit.
    """

    name: str
    type: str
    meaning: str


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
        Column(name="target_log_prob", type="float32", meaning="log-probability of the target after the layer, nats"),
        Column(name="target_rank", type="int32", meaning="rank of the target after the layer, 1 = top"),
        Column(name="entropy_bits", type="float32", meaning="entropy of the distribution after the layer, bits"),
        Column(
            name="top_ids", type="list<int32>", meaning="ids of the most probable tokens after the layer, best first"
        ),
        Column(name="top_prob", type="list<float32>", meaning="their probabilities, in [0, 1]"),
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
            meaning="JS divergence between the clean and the perturbed output, bits, in [0, 1]; NaN where the layer "
            "has nothing to perturb at the site",
        ),
    ),
)

PROMPTS = Table(
    file="prompts.parquet",
    rows="prompt",
    axes=("prompt",),
    columns=(
        _PROMPT,
        Column(name="prompt_ids", type="list<int64>", meaning="token ids of the prompt"),
        Column(name="answer_ids", type="list<int64>", meaning="token ids of the answer; empty where there is none"),
        Column(name="target_ids", type="list<int64>", meaning="ids of the tokens whose probability is followed"),
        Column(name="top_id", type="int64", meaning="the model's own top token at the first position that is read"),
        Column(name="top_prob", type="float64", meaning="its probability, in [0, 1]"),
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
            meaning="log-probability of the target read from the embeddings, nats",
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
        ),
        Column(
            name="other_answer_ids",
            type="list<list<int64>>",
            meaning="token ids of the other answers that are right",
            optional=True,
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
        ),
        Column(
            name="dominant_ratio",
            type="float32",
            meaning="that root mean square over the median dimension's, a ratio; NaN where none was looked for, as at "
            "the site state",
        ),
        Column(name="dominant_hit", type="list<bool>", meaning="for every draw, whether it masks that dimension"),
    ),
)

TOKENS = Table(
    file="tokens.parquet",
    rows="token id that occurs in the run",
    axes=(),
    columns=(
        Column(name="token_id", type="int64", meaning="id of the token, ascending"),
        Column(name="text", type="string", meaning="its text"),
    ),
)

TABLES = (LAYERS, PERTURBATIONS, PROMPTS, DIMENSIONS, TOKENS)

HEADER_FIELDS = (
    HeaderField(name="format", type="string", meaning=f'always "{RUN_FORMAT}"'),
    HeaderField(name="format_version", type="integer", meaning=f"version of this format, now {RUN_FORMAT_VERSION}"),
    HeaderField(
        name="sha256",
        type="string",
        meaning="checksum of `run.json` itself, computed with these 64 digits written as zeros",
    ),
    HeaderField(name="status", type="string", meaning='"complete", "interrupted" or "failed"'),
    HeaderField(name="error", type="object or null", meaning="what ended a failed run: `type` and `message`"),
    HeaderField(name="warnings", type="array of strings", meaning="what a user should know about the numbers"),
    HeaderField(name="method", type="string", meaning='"ladder" (one pass) or "plain" (one hooked forward at a time)'),
    HeaderField(name="elapsed_s", type="number", meaning="wall-clock time of the trace, seconds"),
    HeaderField(name="n_requested", type="integer", meaning="number of prompts that were asked for"),
    HeaderField(
        name="plan",
        type="object or null",
        meaning="what the trace was going to do, as it was planned: `prefixes`, `buckets`, `n_passes`, `widest_rows`, "
        "`flops` (products of matrices and attention), `weight_bytes`, `weight_bytes_read`, `peak_bytes` (estimate of "
        "what the process grows by), `live_bytes` (of what its tensors take of that; absent in older runs), "
        "`budget_bytes`, `seconds` (estimate), `is_measured`, `notes`. Null where a run failed "
        "before; absent in runs that were written when there were no plans",
    ),
    HeaderField(name="shape", type="object", meaning="`n_prompts` (finished), `n_draws`, `n_layers`, `top_k`"),
    HeaderField(
        name="layers_without_site",
        type="array of integers",
        meaning="layers that have nothing to perturb at the site: their `js_bits` is NaN for every prompt and draw. "
        "For people and other programs: LayerTracer finds them anew in the table. Absent in runs that were written "
        "when every layer had to have the site",
    ),
    HeaderField(
        name="demonstration_sets",
        type="array of integers or null",
        meaning="for every prompt the number of the set of demonstrations that it begins with, which intervals "
        "resample. Null where all prompts share one set, or have none; absent in runs that were written when there was "
        "only one",
    ),
    HeaderField(
        name="spec",
        type="object",
        meaning="what was asked: `task`, `perturbation`, `onset`, `target`, `target_tokens`, `seed` (of the bootstrap)",
    ),
    HeaderField(
        name="model",
        type="object",
        meaning="`name`, `class_name`, `revision`, `d_model`, `d_vocab`, `n_parameters`, `device`, `dtype`, "
        "`fingerprint` (hash of the weights' shapes and of the unembedding) and `layers` (`index`, `path`, `mixer`, "
        "`mlp`, `n_parameters`)",
    ),
    HeaderField(
        name="self_check",
        type="object",
        meaning="the proof at load: `checks` (`name`, `error`, `tolerance`, `unit`, `passed`, `meaning`), `method`, "
        "`row_by_row`, `notes`",
    ),
    HeaderField(
        name="audit",
        type="object or null",
        meaning="what was measured again, the plain way: `share` of the trace's arithmetic that it was to take (0: "
        "nothing), `n_cells` numbers that were compared, `n_forwards`, `n_drawn` of these by the seed alone, "
        "`worst_nats` and `worst_bits` (largest disagreements; null where nothing was compared) and `notes`; null "
        "where a run failed before, absent in runs that were written when there were no audits",
    ),
    HeaderField(
        name="provenance",
        type="object",
        meaning="package versions, Python, platform, git commit of the working folder, command line, times (UTC); no "
        "host name, no home folder",
    ),
    HeaderField(
        name="summary",
        type="object",
        meaning="task particle, vulnerable layer, robustness and results by kind of mixer, over all prompts and over "
        "the solved ones; for people and other programs: LayerTracer computes them anew from the tables",
    ),
    HeaderField(name="files", type="object", meaning="for every table its `sha256`, `n_bytes` and `n_rows`"),
)

OWN_FILES: frozenset[str] = frozenset({HEADER_FILE, *(table.file for table in TABLES)})
"""Files that belong to a run; anything else in the folder is left alone."""

REPORT_FILE = "report.html"
"""The report beside the run; drawn from it, and not part of the format."""

NON_FINITE: Mapping[str, float] = MappingProxyType({"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")})
"""JSON has no NaN and no infinity: they are written as `{"$float": "nan"}`."""


def describe_format() -> str:
    """The run format as Markdown, generated from the schema.

    Example:
        >>> describe_format().splitlines()[0]
        '# The run folder'
    """
    lines = [
        "# The run folder",
        "",
        f"A run is a folder of one `{HEADER_FILE}` and {len(TABLES)} Parquet tables (zstd). It is written to a",
        "temporary sibling, flushed to the disk and renamed, so it is either whole or absent. Every file has a",
        "checksum; a file that was altered, cut short or lost is refused with its name, and never read in part. Failed",
        "and interrupted runs have the same form: they hold the prompts that were finished. The same record gives the",
        "same bytes.",
        "",
        f"This is version {RUN_FORMAT_VERSION} of the format. Older versions load for ever; a newer one is refused",
        f"with a message. Other files in the folder, such as `{REPORT_FILE}`, are left alone.",
        "",
        f"## `{HEADER_FILE}`",
        "",
        'UTF-8 JSON. NaN and infinities are written as `{"$float": "nan"}`, `"inf"` or `"-inf"`.',
        "",
        "| field | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{field.name}` | {field.type} | {field.meaning} |" for field in HEADER_FIELDS]
    for table in TABLES:
        lines += _describe_table(table)
    return "\n".join(lines) + "\n"


def _describe_table(table: Table) -> list[str]:
    order = f", ordered by {', '.join(f'`{axis}`' for axis in table.axes)}" if table.axes else ""
    head = [
        "",
        f"## `{table.file}`",
        "",
        f"One row per {table.rows}{order}.",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    return head + [
        f"| `{column.name}` | `{column.type}`{' or null' if column.nullable else ''} | {column.meaning}"
        f"{'; absent in older runs' if column.optional else ''} |"
        for column in table.columns
    ]
