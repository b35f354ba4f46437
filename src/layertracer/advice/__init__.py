"""Design advice as data: what it holds, on a disk and in memory. No torch."""

from layertracer.advice._limits import BASELINES
from layertracer.advice._records import (
    Accuracy,
    AdviceRecord,
    Baseline,
    Divisions,
    EarlyExit,
    Evaluations,
    Gates,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Region,
    Search,
    Singles,
    Switching,
    Verdict,
)
from layertracer.advice._schema import ADVICE_FILE, ADVICE_FORMAT_VERSION, ADVICE_TABLES
from layertracer.advice._storage import read_advice, same_advice, save_advice
from layertracer.advice._trees import to_tree

__all__ = [
    "ADVICE_FILE",
    "ADVICE_FORMAT_VERSION",
    "ADVICE_TABLES",
    "BASELINES",
    "Accuracy",
    "AdviceRecord",
    "Baseline",
    "Divisions",
    "EarlyExit",
    "Evaluations",
    "Gates",
    "Judgement",
    "Pairs",
    "Placement",
    "PublishedMatch",
    "Ratio",
    "Region",
    "Search",
    "Singles",
    "Switching",
    "Verdict",
    "read_advice",
    "same_advice",
    "save_advice",
    "to_tree",
]
