"""Pure numbers on NumPy arrays: onset criteria, the task particle, the vulnerable layer, intervals. No torch."""

from layertracer.measures._agreement.correlation import Correlation, average_ranks, correlate
from layertracer.measures._agreement.holm import holm
from layertracer.measures._agreement.layer_agreement import correlate_layers, shift_p
from layertracer.measures._agreement.prompt_agreement import correlate_prompts
from layertracer.measures._bootstrap import (
    MIN_UNITS,
    SURE_UNITS,
    CurveBand,
    bootstrap_crossed_curve,
    bootstrap_js_curve,
    bootstrap_mean_curve,
    layer_interval,
    mirrored_interval,
    note_on_contenders,
    note_on_curves,
    note_on_means,
    note_on_onsets,
    percentile_interval,
)
from layertracer.measures._certified.bounds import bound_mean
from layertracer.measures._certified.certificate import Rounds, certify, race_layers
from layertracer.measures._certified.race import Race, check_level, least_rounds, race_means
from layertracer.measures._checked_arrays import find_missing
from layertracer.measures._clusters.cluster_mean import ClusterMean, cluster_interval
from layertracer.measures._clusters.fire_rates import FireRate, fire_rates
from layertracer.measures._clusters.join import join_clusters
from layertracer.measures._clusters.prompts_needed import PromptsNeeded, prompts_needed
from layertracer.measures._clusters.student import student_quantile
from layertracer.measures._clusters.variance import VarianceShares, variance_shares
from layertracer.measures._criteria import ONSET_NAMES, onset_from_dict, onset_from_name
from layertracer.measures._curves import TargetCurves
from layertracer.measures._depth import interpolate_profile, relative_depth
from layertracer.measures._divisions.cka import LEAST_TOKENS, cka_of, unbiased_hsic
from layertracer.measures._divisions.divide import LayerDivision, divide_layers
from layertracer.measures._dominance import DominantDimensions, attribute_to_dominant
from layertracer.measures._first_layer import NONE_FOUND
from layertracer.measures._mixer_contrast import KindContrast, contrast_kinds
from layertracer.measures._mixers import group_by_mixer, mean_gain_prob
from layertracer.measures._onset import FirstTop1, HalfMax, OnsetCriterion, Rise
from layertracer.measures._particle import describe_particle, find_task_particle, resample_onset_layers
from layertracer.measures._ratios import AbsRatio, ChangePoint, Ratio
from layertracer.measures._resampling import (
    Sampling,
    check_resampling,
    count_units,
    make_generator,
    resample_crossed_means,
    resample_mean_curves,
)
from layertracer.measures._robustness import Robustness, measure_robustness
from layertracer.measures._sensitivity import Sensitivity, sweep_delta, sweep_onset
from layertracer.measures._shares import paired_change, wilson
from layertracer.measures._trend import (
    MonotoneTrend,
    SizeGroups,
    group_sizes,
    monotone_trend,
    pool_groups,
    scaling_slope,
)
from layertracer.measures._vulnerability import find_largest_loss, find_vulnerable_layer, largest_layer

__all__ = [
    "LEAST_TOKENS",
    "MIN_UNITS",
    "NONE_FOUND",
    "ONSET_NAMES",
    "SURE_UNITS",
    "AbsRatio",
    "ChangePoint",
    "ClusterMean",
    "Correlation",
    "CurveBand",
    "DominantDimensions",
    "FireRate",
    "FirstTop1",
    "HalfMax",
    "KindContrast",
    "LayerDivision",
    "MonotoneTrend",
    "OnsetCriterion",
    "PromptsNeeded",
    "Race",
    "Ratio",
    "Rise",
    "Robustness",
    "Rounds",
    "Sampling",
    "Sensitivity",
    "SizeGroups",
    "TargetCurves",
    "VarianceShares",
    "attribute_to_dominant",
    "average_ranks",
    "bootstrap_crossed_curve",
    "bootstrap_js_curve",
    "bootstrap_mean_curve",
    "bound_mean",
    "certify",
    "check_level",
    "check_resampling",
    "cka_of",
    "cluster_interval",
    "contrast_kinds",
    "correlate",
    "correlate_layers",
    "correlate_prompts",
    "count_units",
    "describe_particle",
    "divide_layers",
    "find_largest_loss",
    "find_missing",
    "find_task_particle",
    "find_vulnerable_layer",
    "fire_rates",
    "group_by_mixer",
    "group_sizes",
    "holm",
    "interpolate_profile",
    "join_clusters",
    "largest_layer",
    "layer_interval",
    "least_rounds",
    "make_generator",
    "mean_gain_prob",
    "measure_robustness",
    "mirrored_interval",
    "monotone_trend",
    "note_on_contenders",
    "note_on_curves",
    "note_on_means",
    "note_on_onsets",
    "onset_from_dict",
    "onset_from_name",
    "paired_change",
    "percentile_interval",
    "pool_groups",
    "prompts_needed",
    "race_layers",
    "race_means",
    "relative_depth",
    "resample_crossed_means",
    "resample_mean_curves",
    "resample_onset_layers",
    "scaling_slope",
    "shift_p",
    "student_quantile",
    "sweep_delta",
    "sweep_onset",
    "unbiased_hsic",
    "variance_shares",
    "wilson",
]
