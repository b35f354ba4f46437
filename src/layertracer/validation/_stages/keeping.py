"""Stages that are measured once: what one found is kept on the disk, and taken from there by the same call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from layertracer._errors import LayerTracerError
from layertracer.evidence import ValidationStage
from layertracer.runs import Checkpoints
from layertracer.tracing import Progress

_WHAT = "stage"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a stage found.

    Attributes:
        facts: What is no array, as JSON values.
        arrays: Arrays by name.
        why_not: Why nothing was measured; "" where something was.
        cpu_s: Seconds of the processor that it took.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    why_not: str = ""
    cpu_s: float = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said of it."""
        return tuple(self.facts.get("notes", ()))


def not_measured(reason: str) -> Found:
    """A stage of which nothing can be measured."""
    return Found(why_not=reason)


class StageKeeper:
    """What stages found, and what is left of them.

    Args:
        checkpoints: Where it is kept.
        told: Called with how far everything is.
    """

    def __init__(self, checkpoints: Checkpoints, told: Callable[[Progress], None] | None) -> None:
        self._checkpoints, self._told = checkpoints, told
        self._found: dict[str, Found] = {}
        self._stages: Sequence[ValidationStage] = ()
        for meta, arrays in checkpoints.found(_WHAT):
            self._found[meta["stage"]] = Found(
                facts=meta["facts"], arrays=arrays, why_not=meta["why_not"], cpu_s=meta["cpu_s"]
            )

    @property
    def known(self) -> Mapping[str, Found]:
        """What is there, by the names of the stages."""
        return self._found

    def follow(self, stages: Sequence[ValidationStage]) -> None:
        """Say what will be done, so that it can be told how far it is."""
        self._stages = stages

    def take(
        self, name: str, measure: Callable[[Callable[[Progress], None]], Found], *, is_needed: bool = False
    ) -> Found:
        """What a stage finds: from the disk, or measured now and kept.

        A stage that cannot be measured says why, and costs nothing of what others found; it is not kept, so that the
        same call tries again.

        Args:
            name: Its name.
            measure: Measures it; is given a function that takes the progress within it.
            is_needed: Whether there is nothing without it, so that an error ends everything.

        Raises:
            LayerTracerError: If it is needed and cannot be measured.
            KeyboardInterrupt: On Ctrl-C.
        """
        if name not in self._found:
            began_s = time.process_time()
            self._tell(name, 0.0)
            try:
                found = measure(lambda progress: self._tell(name, progress.done / max(progress.total, 1)))
            except LayerTracerError as error:
                if is_needed:
                    raise
                return not_measured(str(error))
            found = Found(
                facts=found.facts,
                arrays=found.arrays,
                why_not=found.why_not,
                cpu_s=time.process_time() - began_s,
            )
            self._keep(name, found)
        self._tell(name, 1.0)
        return self._found[name]

    def _keep(self, name: str, found: Found) -> None:
        self._found[name] = found
        meta = {"what": _WHAT, "stage": name, "facts": found.facts, "why_not": found.why_not, "cpu_s": found.cpu_s}
        self._checkpoints.add(meta, found.arrays)

    def _tell(self, name: str, share: float) -> None:
        """Say how far it is, in forwards."""
        if self._told is None or not self._stages:
            return
        done = 0.0
        for stage in self._stages:
            if stage.name == name:
                words = stage.words
                done += share * stage.n_forwards
                break
            done += stage.n_forwards
        else:
            return
        total = sum(stage.n_forwards for stage in self._stages)
        self._told(Progress(round(done), max(1, round(total)), words))
