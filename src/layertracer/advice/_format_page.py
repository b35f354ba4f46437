"""The format of advice folders as Markdown: generated from the records, their limits and the tables."""

from __future__ import annotations

from layertracer._types import Interval
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
from layertracer.advice._storage import STORED_AS
from layertracer.runs import FormatWords, describe_record_format

_WORDS = FormatWords(
    title="The advice folder",
    is_a="Design advice is",
    parts="While a design runs, its finished measurements lie in `.parts/`.",
    never="Advice never takes the place of a run, nor a run that of advice.",
    fields="the advice",
    in_tables="In the tables, and not in `advice.json`, stand: of `singles` what was measured of each layer, in "
    "`singles.parquet`; every judgement (those of `placements` and `ratio`) and the `placements`, `objective` and "
    "`kl_nats` of `baselines`, in `judgements.parquet`, with the tasks of judgements in `accuracy.parquet`; the "
    'matrices of `pairs` in `pairs.parquet`. A placement without a row of the role "advised" was not judged. An '
    "interval is three columns, which are null where there is none.",
    laws="Besides: layers are ascending, each once, and those that are kept are among the placeable ones, which are "
    "`singles.layers`; a placement under the number k keeps k layers, and so do those that are compared with it; it "
    "names the model, the substitute and the layers of the advice; what was judged is what is placed. A `percentile` "
    'is there where `n_random` is above 0, and without one the `verdict` is "undecided". Intervals do not run '
    "backwards; those of shares lie in [0, 1], those of percentiles in [0, 100]. `overlap` is the number of layers in "
    "both lists, `p_holm` at least `p`. `pairs` are symmetric, a layer does not interact with itself. The knee is one "
    "of the numbers of `ratio`. Regions follow one another from the first layer to the last. What stays from a layer "
    "on agrees there. Where there is no snippet, `snippet_reason` says why. `objective` is that of its judgement, to "
    "the last bit, and rows have the order in which they are written.",
    records=(
        (AdviceRecord, "Advice"),
        *((kind, kind.__name__) for kind in (Placement, Judgement, Accuracy, Interval, Singles, Pairs, Baseline)),
        *((kind, kind.__name__) for kind in (PublishedMatch, Ratio, Divisions, Region, Gates, EarlyExit, Switching)),
        (Evaluations, "Evaluations"),
    ),
)


def describe_advice_format() -> str:
    """The format of advice folders as Markdown.

    Example:
        >>> describe_advice_format().splitlines()[0]
        '# The advice folder'
    """
    return "\n".join(describe_record_format(STORED_AS, _WORDS)) + "\n"
