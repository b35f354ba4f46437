"""Names that options choose from.

They repeat what lower floors define, so that `--help` needs no NumPy; a test compares them.
"""

SITES = ("block_output", "mixer_output", "mlp_output", "state")
ALL_SITES = "all"
CAUSAL_SITES = ("block_output", "mixer_output", "mlp_output")
CORRUPTIONS = ("noise", "swap")
LENS_KINDS = ("linear", "tuned", "jacobian")
DIRECTIONS = ("denoise", "noise")
SCHEMES = ("partition", "random")
FILLS = ("zero", "mean", "resample")
POSITIONS = ("all", "last")
PERTURBATIONS = ("mask", "noise", "skip")
ONSETS = ("rise", "ratio", "abs_ratio", "first_top1", "half_max", "change_point")
FAMILIES = ("mixers", "one")
TARGETS = ("answer", "model")
TARGET_TOKENS = ("first", "all")
SEARCHES = ("greedy", "singles", "joint_js", "pairs", "exact")
SUBSTITUTES = ("window", "none", "mean")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
FIGURE_FORMATS = ("svg", "png", "pdf")
DEFAULT_MODEL = "smollm2"
