"""What a validation takes before it runs: stages, forwards, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationStage:
    """One part of a validation.

    Attributes:
        name: What it is called.
        words: What is done, in a few words.
        n_forwards: Whole forwards of a prompt that this amounts to, about.
        cpu_s: Seconds of the processor, about.
        is_known: Whether an earlier, unfinished call had finished it.
    """

    name: str
    words: str
    n_forwards: float
    cpu_s: float
    is_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPlan:
    """What a validation takes, about.

    Attributes:
        stages: In the order in which they run.
        n_prompts: Prompts of the task.
        tokens_per_s: Tokens a second of the model's plain forward, as timed here on one of them.
    """

    stages: tuple[ValidationStage, ...]
    n_prompts: int
    tokens_per_s: float

    @property
    def n_forwards(self) -> float:
        """Whole forwards of a prompt that are left to be done, about."""
        return sum(stage.n_forwards for stage in self.stages if not stage.is_known)

    @property
    def cpu_s(self) -> float:
        """Seconds of the processor that are left, about."""
        return sum(stage.cpu_s for stage in self.stages if not stage.is_known)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "stages": [
                {
                    "name": stage.name,
                    "words": stage.words,
                    "n_forwards": round(stage.n_forwards, 1),
                    "cpu_s": round(stage.cpu_s, 1),
                    "is_known": stage.is_known,
                }
                for stage in self.stages
            ],
            "n_prompts": self.n_prompts,
            "tokens_per_s": round(self.tokens_per_s, 1),
            "n_forwards": round(self.n_forwards, 1),
            "cpu_s": round(self.cpu_s, 1),
        }

    def __str__(self) -> str:
        """The plan in lines."""
        lines = [f"prompts: {self.n_prompts}"]
        lines += [
            f"{stage.words}: {stage.n_forwards:.0f} forwards, {_duration(stage.cpu_s)}"
            + (" (there already)" if stage.is_known else "")
            for stage in self.stages
        ]
        lines.append(f"together: {self.n_forwards:.0f} forwards of a prompt, about {_duration(self.cpu_s)}")
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
