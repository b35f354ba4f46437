"""What causal tracing is asked, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from layertracer._errors import UnknownNameError, UsageError
from layertracer._types import checked_number, checked_whole
from layertracer.evidence import Corruption, Direction

CORRUPTIONS: tuple[str, ...] = get_args(Corruption)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
CAUSAL_SITES = ("block_output", "mixer_output", "mlp_output")

_SHARE = "It is a share of the arithmetic, from 0 (nothing is measured again) to 1."


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalSettings:
    """What is corrupted, what is put back where, and what is left out.

    Attributes:
        corrupt: "noise" on the subject's embeddings, or "swap": the contrast prompt is run instead.
        site: Where inside the layer: "block_output", "mixer_output" or "mlp_output".
        window: How many layers are patched together.
        draws: Draws of noise.
        noise_scale: Standard deviation of the noise, in those of the subjects' embeddings.
        direction: "denoise": clean values into the corrupted run; "noise": corrupted ones into the clean run.
        min_total_effect: Least difference of clean and corrupted probability at which a prompt is patched.
        seed: Seed of noise, lent contrasts, resamples and what the audit draws.
        audit: Share of the arithmetic that is done again the plain way.
        memory: Memory that the passes may take, e.g. "4GiB"; None for most of what is free.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them.
        template_arguments: What else the template is given.
    """

    corrupt: str = "noise"
    site: str = "block_output"
    window: int = 1
    draws: int = 10
    noise_scale: float = 3.0
    direction: str = "denoise"
    min_total_effect: float = 0.01
    seed: int = 0
    audit: float = 0.1
    memory: str | int | None = None
    chat: bool = False
    system: str | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: If a number is of another kind or out of range.
            UnknownNameError: If a name is unknown.
        """
        for name, choices in (("corrupt", CORRUPTIONS), ("site", CAUSAL_SITES), ("direction", DIRECTIONS)):
            given = getattr(self, name)
            if given not in choices:
                raise UnknownNameError.among(name, str(given), choices)
        hints = {
            "window": "It is how many layers are patched together: 1 or more.",
            "draws": "It is how often noise is drawn: 1 or more.",
            "seed": "Give any whole number from 0 on.",
        }
        for name, hint in hints.items():
            value = checked_whole(name, getattr(self, name), hint=hint)
            if value < (name != "seed"):
                raise UsageError(f"{name} must be {'0' if name == 'seed' else '1'} or more, got {value}. {hint}")
            object.__setattr__(self, name, value)
        self._check_numbers()

    def _check_numbers(self) -> None:
        hints = {
            "noise_scale": "It is the noise's standard deviation in those of the subjects' embeddings, above 0.",
            "min_total_effect": "It is a difference of probabilities, from 0 to 1.",
            "audit": _SHARE,
        }
        for name, hint in hints.items():
            value = checked_number(name, getattr(self, name), hint=hint)
            is_right = 0 < value < float("inf") if name == "noise_scale" else 0 <= value <= 1
            if not is_right:
                raise UsageError(f"{name} is out of range, got {value:g}. {hint}")
            object.__setattr__(self, name, value)

    @property
    def n_draws(self) -> int:
        """How often a prompt is corrupted: a swap, once."""
        return self.draws if self.corrupt == "noise" else 1

    def to_spec(self) -> dict[str, Any]:
        """What was asked, as JSON values."""
        asked = {
            name: getattr(self, name)
            for name in ("corrupt", "site", "window", "direction", "min_total_effect", "seed", "audit", "chat")
        }
        noise = {"draws": self.draws, "noise_scale": self.noise_scale} if self.corrupt == "noise" else {}
        template = {"system": self.system, "template_arguments": dict(self.template_arguments)} if self.chat else {}
        return {**asked, **noise, **template}
