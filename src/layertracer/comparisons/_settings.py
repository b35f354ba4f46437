"""What a comparison takes for granted: thresholds, numbers of resamples, what counts as one size."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._errors import UnknownNameError, UsageError
from layertracer.measures import OnsetCriterion, check_resampling

FAMILY_RULES = ("mixers", "one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSettings:
    """How models are compared, and what a verdict asks for.

    Attributes:
        prompts: "all", or "solved": each model's own solved prompts only; pairs share those that both solve.
        onsets: Onset criteria, that of the headline first; None for those of the runs and then all others with their
            default parameters.
        families: Within which models size is compared: "mixers" (models with the same kinds of mixers), "one" (all
            models), or one name a model.
        level: Coverage of all intervals, in (0, 1); 1 - level is the significance of all tests.
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples and of random permutations.
        min_shared: Prompts that a pair must share for a paired bootstrap, at least 2.
        n_grid: Depths of the common grid, 1 / n_grid to 1; None for the layers themselves where all models have equally
            many, and 20 otherwise.
        n_bands: Bands of depth in which kinds of mixers are compared; None to choose, see `measures.contrast_kinds`.
        size_tolerance: Relative difference up to which two numbers of parameters are one size.
        deep_depth: Relative depth above which a task particle is deep, in [0, 1).
        min_models: Models, and sizes, without which no claim is decided, at least 3.
        min_prompts: Prompts without which a model does not count in a verdict.
        min_solved: Share of solved prompts without which a model does not count in a verdict on its task particle.
        site: The site at which runs of several perturbations are compared; None for the first perturbation of the first
            run that all of them have.
        allow_mismatch: Whether runs that ask different questions are compared with a warning, not refused.

    Raises:
        UsageError: If a number is out of range.
        UnknownNameError: If a name is not one of those listed.

    Example:
        >>> ComparisonSettings(deep_depth=0.6).level
        0.95
    """

    prompts: str = "all"
    onsets: tuple[OnsetCriterion, ...] | None = None
    families: str | tuple[str, ...] = "mixers"
    level: float = 0.95
    n_resamples: int = 10_000
    seed: int = 0
    min_shared: int = 8
    n_grid: int | None = None
    n_bands: int | None = None
    size_tolerance: float = 0.1
    deep_depth: float = 0.5
    min_models: int = 3
    min_prompts: int = 10
    min_solved: float = 0.25
    site: str | None = None
    allow_mismatch: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_resampling(self.n_resamples, self.level)
        if self.prompts not in ("all", "solved"):
            raise UnknownNameError.among("choice of prompts", self.prompts, ("all", "solved"))
        if isinstance(self.families, str) and self.families not in FAMILY_RULES:
            raise UnknownNameError.among(
                "rule for families", self.families, FAMILY_RULES, "Or give one name a model, as a tuple."
            )
        if self.onsets is not None and not self.onsets:
            raise UsageError("onsets is empty. Give at least one criterion, e.g. (Rise(),), or None for all of them.")
        self._check_range("seed", low=0)
        self._check_range("min_shared", low=2)
        self._check_range("n_grid", low=1)
        self._check_range("n_bands", low=1)
        self._check_range("size_tolerance", low=0)
        self._check_range("deep_depth", low=0, high=0.999)
        self._check_range("min_models", low=3)
        self._check_range("min_prompts", low=1)
        self._check_range("min_solved", low=0, high=1)

    def _check_range(self, name: str, *, low: float, high: float = float("inf")) -> None:
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            upper = "" if high == float("inf") else f" and at most {high:g}"
            reason = " One or two models never decide a claim." if name == "min_models" else ""
            raise UsageError(
                f"{name} must be at least {low:g}{upper}, got {value}.{reason} Leave it out for the default."
            )

    @property
    def significance(self) -> float:
        """Largest p-value that counts, 1 - level, without the rounding of the subtraction."""
        return round(1.0 - self.level, 12)
