"""The format of advice folders as Markdown: generated from the records, their limits and the tables."""

from __future__ import annotations

from layertracer._types import Interval
from layertracer.advice._limits import RULES
from layertracer.advice._records import (
    Accuracy,
    AdviceRecord,
    Baseline,
    Evaluations,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Singles,
)
from layertracer.advice._role_records import Divisions, EarlyExit, Gates, Region, Switching
from layertracer.advice._schema import ADVICE_FILE, ADVICE_FORMAT_VERSION, ADVICE_TABLES
from layertracer.advice._storage import STORED_AS
from layertracer.runs import describe_record_fields, describe_table, in_words

_RECORDS = (
    *(AdviceRecord, Placement, Judgement, Accuracy, Interval, Singles, Pairs, Baseline, PublishedMatch, Ratio),
    *(Divisions, Region, Gates, EarlyExit, Switching, Evaluations),
)
_HEAD = {
    "format": 'always "layertracer-advice"',
    "format_version": f"version of this format, now {ADVICE_FORMAT_VERSION}",
    "sha256": f"checksum of `{ADVICE_FILE}` itself, computed with these 64 digits written as zeros",
    "kind": 'what was asked: always "design advice"',
    "files": "for every table its `sha256`, `n_bytes` and `n_rows`",
}
_IN_TABLES = """\
In the tables, and not in `advice.json`, stand: of `singles` what was measured of each layer, in `singles.parquet`;
every judgement (those of `placements` and `ratio`) and the `placements`, `objective` and `kl_nats` of `baselines`,
in `judgements.parquet`, with the tasks of judgements in `accuracy.parquet`; the matrices of `pairs` in
`pairs.parquet`. A placement without a row of the role "advised" was not judged. An interval is three columns, which
are null where there is none."""
_LAWS = """\
Besides: layers are ascending, each once, and those that are kept are among the placeable ones, which are
`singles.layers`; a placement under the number k keeps k layers, and so do those that are compared with it; it names
the model, the substitute and the layers of the advice; what was judged is what is placed. A `percentile` is there
where `n_random` is above 0, and without one the `verdict` is "undecided". Intervals do not run backwards; those of
shares lie in [0, 1], those of percentiles in [0, 100]. `overlap` is the number of layers in both lists, `p_holm` at
least `p`. `pairs` are symmetric, a layer does not interact with itself. The knee is one of the numbers of `ratio`.
Regions follow one another from the first layer to the last. What stays from a layer on agrees there. Where there is
no snippet, `snippet_reason` says why. `objective` is that of its judgement, to the last bit, and rows have the
order in which they are written."""


def describe_advice_format() -> str:
    """The format of advice folders as Markdown.

    Example:
        >>> describe_advice_format().splitlines()[0]
        '# The advice folder'
    """
    largest = STORED_AS.largest_header_bytes // 2**20
    lines = [
        "# The advice folder",
        "",
        f"Design advice is a folder of one `{ADVICE_FILE}` and {len(ADVICE_TABLES)} Parquet tables (zstd), written as",
        "[runs](run-format.md) are: to a temporary sibling, flushed to the disk and renamed, so that it is either",
        "whole or absent. Every file has a checksum; one that was altered, cut short or lost is refused with its name,",
        "and never read in part. Types, ranges and how the numbers go together are checked as well, as they stand",
        "below. The same record gives the same bytes. While a design runs, its finished measurements lie in `.parts/`.",
        "",
        f"No other file is opened than these; `{ADVICE_FILE}` may have {largest} MiB. Other",
        "files in the folder, such as `report.html`, are left alone. Advice never takes the place of a run, nor a run",
        "that of advice.",
        "",
        f"This is version {ADVICE_FORMAT_VERSION} of the format. Older versions load for ever; a newer one is refused",
        "with a message.",
        "",
        f"## `{ADVICE_FILE}`",
        "",
        "UTF-8 JSON; no name stands twice in one object. NaN and infinities are written as in `run.json`:",
        '`{"$float": "nan"}`. Beside the fields of the advice:',
        "",
        "| field | value | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {in_words(STORED_AS.head.required[name])} | {meaning} |" for name, meaning in _HEAD.items()),
        "",
        *_IN_TABLES.splitlines(),
        "",
        *_LAWS.splitlines(),
    ]
    for kind in _RECORDS:
        lines += describe_record_fields(RULES, kind, "Advice" if kind is AdviceRecord else kind.__name__)
    for table in ADVICE_TABLES:
        lines += describe_table(table)
    return "\n".join(lines) + "\n"
