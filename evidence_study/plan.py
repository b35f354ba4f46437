"""What is validated, and how: models, tasks, options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "evidence_study" / "results"
"""Finished evidence, from which the pages are written."""
STATE = ROOT / "build" / "evidence-study"
"""Where unfinished stages are kept as they come."""

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One validation.

    Attributes:
        model: The model.
        task: Its task.
        n_prompts: Prompts of it.
        has_text: Whether running text is prose; else the model writes its own, as those must that know few words.
        options: Further arguments of `lt.validate`.
    """

    model: str
    task: str = "antonym"
    n_prompts: int = 32
    has_text: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.model.replace('/', '-')}-{self.task}"


_LENSES = {"lenses": ("tuned", "jacobian")}

SMOLLM2 = (Asked(model="smollm2", n_prompts=16, has_text=True, options=_LENSES | {"fractions": (0.02, 0.2, 0.8)}),)
"""Fewer prompts and doses: a dose of 30 layers at three sites is some minutes of a processor."""
MINIATURES = tuple(
    Asked(model=f"mini/{name}", options=_LENSES) for name in ("attention", "hybrid", "gated-deltanet", "mamba2")
)
EVERYTHING = (*SMOLLM2, *MINIATURES)


def prose() -> str:
    """English prose that everybody has who has Python: its own reference, topic by topic."""
    return "\n\n".join(topics[name] for name in sorted(topics))
