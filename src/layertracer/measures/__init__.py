"""Pure numbers on NumPy arrays: onset criteria, the task particle, the vulnerable layer, intervals. No torch."""

from layertracer.measures._bootstrap import CurveBand, bootstrap_mean_curve
from layertracer.measures._criteria import ONSET_NAMES, describe_onset, onset_from_dict, onset_from_name
from layertracer.measures._curves import TargetCurves
from layertracer.measures._divergences import find_missing
from layertracer.measures._dominance import DominantDimensions, attribute_to_dominant
from layertracer.measures._mixers import group_by_mixer, mean_gain_prob
from layertracer.measures._onset import FirstTop1, HalfMax, OnsetCriterion, Rise
from layertracer.measures._particle import find_task_particle
from layertracer.measures._ratios import AbsRatio, ChangePoint, Ratio
from layertracer.measures._robustness import Robustness, measure_robustness
from layertracer.measures._sensitivity import Sensitivity, sweep_delta
from layertracer.measures._vulnerability import find_vulnerable_layer

__all__ = [
    "ONSET_NAMES",
    "AbsRatio",
    "ChangePoint",
    "CurveBand",
    "DominantDimensions",
    "FirstTop1",
    "HalfMax",
    "OnsetCriterion",
    "Ratio",
    "Rise",
    "Robustness",
    "Sensitivity",
    "TargetCurves",
    "attribute_to_dominant",
    "bootstrap_mean_curve",
    "describe_onset",
    "find_missing",
    "find_task_particle",
    "find_vulnerable_layer",
    "group_by_mixer",
    "mean_gain_prob",
    "measure_robustness",
    "onset_from_dict",
    "onset_from_name",
    "sweep_delta",
]
