"""What a trace is going to do and to take, known before anything runs. No tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from layertracer._types import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPlan:
    """A beginning that several prompts share and that is read once.

    Attributes:
        start: How many tokens come before it, which prompts share already.
        end: Where it ends.
        n_prompts: Prompts that begin so.
        n_passes: Passes in which it is read.
        tokens_saved: Tokens less than if every prompt were read whole.
        memory_bytes: What is remembered of it by all rows, in bytes.
    """

    start: int
    end: int
    n_prompts: int
    n_passes: int
    tokens_saved: int
    memory_bytes: int

    def cells(self) -> tuple[str | int, ...]:
        """Tokens, prompts, passes, tokens saved, and what is remembered, for a table."""
        remembered = format_bytes(self.memory_bytes)
        return f"{self.start} to {self.end}", self.n_prompts, self.n_passes, self.tokens_saved, remembered

    def __str__(self) -> str:
        """One line."""
        what = f"tokens {self.start} to {self.end} of {_count(self.n_prompts, 'prompt')}"
        return f"{what}, {_count(self.n_passes, 'pass', 'passes')}, {format_bytes(self.memory_bytes)} remembered"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPlan:
    """Prompts of equal length that are run together.

    Attributes:
        length: Tokens of each.
        n_shared: How many of them are read with a shared prefix.
        n_own: How many are left to read.
        n_prompts: Prompts.
        prompts_per_pass: Prompts that run together.
        n_cuts: Passes over each prompt: into as many ranges of layers the ladder is cut.
        n_passes: Passes in all.
        widest_rows: Rows at the widest place of a pass: prompts and their perturbed copies.
        peak_bytes: Estimate of what the process grows by, shared prefixes included.
    """

    length: int
    n_shared: int
    n_own: int
    n_prompts: int
    prompts_per_pass: int
    n_cuts: int
    n_passes: int
    widest_rows: int
    peak_bytes: int

    def cells(self) -> tuple[str | int, ...]:
        """Own tokens, shared ones, prompts, prompts and passes of each, passes, rows, and peak, for a table."""
        numbers = (self.n_prompts, self.prompts_per_pass, self.n_cuts, self.n_passes, self.widest_rows)
        return self.n_own, self.n_shared, *numbers, format_bytes(self.peak_bytes)

    def __str__(self) -> str:
        """One line."""
        length = f"{self.n_shared} + {self.n_own}" if self.n_shared else f"{self.n_own}"
        passes = f"{self.prompts_per_pass} at a time, {_count(self.n_passes, 'pass', 'passes')}"
        size = f"{_count(self.widest_rows, 'row')}, {format_bytes(self.peak_bytes)}"
        return f"{_count(self.n_prompts, 'prompt')} of {length} tokens, {passes} of up to {size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFlops:
    """Floating-point operations of products of matrices and attention.

    Attributes:
        layers: Of the layers on prompts' own tokens.
        prefix: Of what is read once for several prompts.
        tail: Of everything after the last layer, where rows become logits.
        audit: Of what is measured again, the plain way.
        plain: Of one hooked forward for every prompt and perturbation, and one without.
    """

    layers: float
    prefix: float
    tail: float
    audit: float
    plain: float

    @property
    def total(self) -> float:
        """What is done."""
        return self.layers + self.prefix + self.tail + self.audit


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePlan:
    """What a trace is going to do.

    Attributes:
        model: Name of the model.
        method: "ladder" or "plain".
        n_prompts: Prompts.
        n_layers: Layers.
        n_draws: Draws of the perturbation.
        n_variants: Layers that are perturbed, times draws.
        prefixes: What is read once for several prompts, a prefix before those that begin with it.
        buckets: Prompts of equal length after the same prefix.
        flops: Arithmetic.
        weight_bytes: Size of the model's parameters.
        weight_bytes_read: Bytes of the layers' parameters that all passes read.
        peak_bytes: Estimate of what the process grows by: what is live, what its allocator keeps beside that, and what
            any trace takes.
        live_bytes: Estimate of the bytes of tensors that are live at most, beyond the weights.
        budget_bytes: Memory that it may take beyond the weights.
        seconds: Estimate of the time that it takes.
        is_measured: Whether memory and arithmetic were measured on the model; guessed from its shapes otherwise.
        notes: Why prefixes are not shared where they are not.
    """

    model: str
    method: Method
    n_prompts: int
    n_layers: int
    n_draws: int
    n_variants: int
    prefixes: tuple[PrefixPlan, ...]
    buckets: tuple[BucketPlan, ...]
    flops: PlannedFlops
    weight_bytes: int
    weight_bytes_read: int
    peak_bytes: int
    live_bytes: int
    budget_bytes: int
    seconds: float
    is_measured: bool
    notes: tuple[str, ...] = ()

    @property
    def n_passes(self) -> int:
        """Passes over the layers, prefixes included."""
        return sum(one.n_passes for one in self.prefixes) + sum(one.n_passes for one in self.buckets)

    @property
    def widest_rows(self) -> int:
        """Rows of the widest pass."""
        return max((bucket.widest_rows for bucket in self.buckets), default=0)

    @property
    def tokens_saved(self) -> int:
        """Tokens that need not be read again since prompts share them."""
        return sum(prefix.tokens_saved for prefix in self.prefixes)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        values = dataclasses.asdict(self)
        values["flops"]["total"] = self.flops.total
        for name in ("prefixes", "buckets", "notes"):
            values[name] = list(values[name])
        return values | {
            "n_passes": self.n_passes,
            "widest_rows": self.widest_rows,
            "tokens_saved": self.tokens_saved,
        }

    def headline(self) -> str:
        """The plan in one line."""
        parts = [
            f"{_count(self.n_prompts, 'prompt')} × {_count(self.n_variants, 'perturbed copy', 'perturbed copies')}"
        ]
        if self.prefixes:
            shared = _count(len(self.prefixes), "shared prefix", "shared prefixes")
            parts.append(f"{shared} ({self.tokens_saved} tokens saved)")
        parts.append(f"{_count(self.n_passes, 'pass', 'passes')} of up to {_count(self.widest_rows, 'row')}")
        parts.append(format_flops(self.flops.total))
        parts.append(f"about {format_seconds(self.seconds)} and {format_bytes(self.peak_bytes)} beyond the weights")
        return ", ".join(parts)

    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what it takes, for people."""
        return [
            ("Arithmetic", self._arithmetic()),
            ("Memory", self._memory()),
            ("Time", f"about {format_seconds(self.seconds)}"),
            ("Costs", "measured on the model" if self.is_measured else "guessed from its shapes"),
        ]

    def __str__(self) -> str:
        """The plan for people: a few lines, and one for every prefix and bucket."""
        return "\n".join(
            [
                f"{self.model}: {self.headline()}",
                *(f"{name:<10}  {value}" for name, value in self.facts()),
                *(f"Prefix      {prefix}" for prefix in self.prefixes),
                *(f"Bucket      {bucket}" for bucket in self.buckets),
                *(f"Note        {note}" for note in self.notes),
            ]
        )

    def _arithmetic(self) -> str:
        flops = self.flops
        parts = [("layers", flops.layers), ("prefix", flops.prefix), ("tail", flops.tail), ("audit", flops.audit)]
        named = ", ".join(f"{name} {format_flops(value)}" for name, value in parts)
        plain = f"{format_flops(flops.plain)} with one hooked forward each"
        return f"{format_flops(flops.total)} ({named}); {plain}"

    def _memory(self) -> str:
        weights = f"{format_bytes(self.weight_bytes)} of weights"
        read = f"passes read {format_bytes(self.weight_bytes_read)} of them"
        return f"about {format_bytes(self.peak_bytes)} of {format_bytes(self.budget_bytes)} beyond {weights}; {read}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def format_bytes(n_bytes: float) -> str:
    """A size for people.

    Example:
        >>> format_bytes(1536), format_bytes(3 * 2**30)
        ('1.5 KiB', '3.0 GiB')
    """
    return _scaled(n_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def format_flops(flops: float) -> str:
    """A number of floating-point operations for people.

    Example:
        >>> format_flops(2.5e12)
        '2.5 TFLOP'
    """
    return _scaled(flops, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def format_seconds(seconds: float) -> str:
    """A time for people.

    Example:
        >>> format_seconds(0.25), format_seconds(12.3), format_seconds(600), format_seconds(7800)
        ('0.2 s', '12 s', '10 min', '2.2 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while value >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    return f"{value:.0f} {units[power]}" if power == 0 or value >= 100 else f"{value:.1f} {units[power]}"
