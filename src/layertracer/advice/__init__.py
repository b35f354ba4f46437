"""Design advice as data: what it holds, on a disk and in memory. No torch."""

from layertracer.advice._design_plan import DesignPlan, PlannedStage
from layertracer.advice._evaluation import PlacementEvaluation, TaskAccuracy
from layertracer.advice._format_page import describe_advice_format
from layertracer.advice._limits import BASELINES
from layertracer.advice._placements import load_placement, save_placement
from layertracer.advice._published import (
    PublishedPlacement,
    compare_with_published,
    hypergeometric_tail,
    plain_name,
    published_for,
    published_placements,
)
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
    Search,
    Singles,
    Verdict,
)
from layertracer.advice._role_records import Divisions, EarlyExit, Gates, Region, Switching
from layertracer.advice._schema import ADVICE_FILE, ADVICE_FORMAT_VERSION, ADVICE_TABLES
from layertracer.advice._snippet import FULL, SLIDING, flash_linear_attention, windows_by_type
from layertracer.advice._storage import is_advice, read_advice, same_advice, save_advice, verify_advice
from layertracer.measures import holm
from layertracer.runs import to_tree

__all__ = [
    "ADVICE_FILE",
    "ADVICE_FORMAT_VERSION",
    "ADVICE_TABLES",
    "BASELINES",
    "FULL",
    "SLIDING",
    "Accuracy",
    "AdviceRecord",
    "Baseline",
    "DesignPlan",
    "Divisions",
    "EarlyExit",
    "Evaluations",
    "Gates",
    "Judgement",
    "Pairs",
    "Placement",
    "PlacementEvaluation",
    "PlannedStage",
    "PublishedMatch",
    "PublishedPlacement",
    "Ratio",
    "Region",
    "Search",
    "Singles",
    "Switching",
    "TaskAccuracy",
    "Verdict",
    "compare_with_published",
    "describe_advice_format",
    "flash_linear_attention",
    "holm",
    "hypergeometric_tail",
    "is_advice",
    "load_placement",
    "plain_name",
    "published_for",
    "published_placements",
    "read_advice",
    "same_advice",
    "save_advice",
    "save_placement",
    "to_tree",
    "verify_advice",
    "windows_by_type",
]
