"""Stages that are measured once: what one found is kept on the disk, and taken from there by the same call."""

from __future__ import annotations

import json
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

    Law: what is taken was found where everything that the stage depends on was equal.

    Args:
        checkpoints: Where it is kept.
        told: Called with how far everything is.
    """

    def __init__(self, checkpoints: Checkpoints, told: Callable[[Progress], None] | None) -> None:
        self._checkpoints, self._told = checkpoints, told
        self._found: dict[tuple[str, str], Found] = {}
        self._stages: Sequence[ValidationStage] = ()
        for meta, arrays in checkpoints.found(_WHAT):
            self._found[meta["stage"], _key(meta.get("depends_on"))] = Found(
                facts=meta["facts"], arrays=arrays, why_not=meta["why_not"], cpu_s=meta["cpu_s"]
            )

    def known(self, depends_on: Mapping[str, Mapping[str, Any] | None]) -> frozenset[str]:
        """Names of the stages that need not be measured, by what each depends on."""
        return frozenset(self.kept(depends_on))

    def kept(self, depends_on: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Found]:
        """What is there already of some stages, by what each depends on."""
        return {
            name: self._found[name, _key(needed)]
            for name, needed in depends_on.items()
            if needed is not None and (name, _key(needed)) in self._found
        }

    def follow(self, stages: Sequence[ValidationStage]) -> None:
        """Say what will be done, so that it can be told how far it is."""
        self._stages = stages

    def take(
        self,
        name: str,
        measure: Callable[[Callable[[Progress], None]], Found],
        *,
        depends_on: Mapping[str, Any] | None,
        is_needed: bool = False,
    ) -> Found:
        """What a stage finds: from the disk, or measured now and kept.

        A stage that cannot be measured says why, and costs nothing of what others found; it is not kept, so that the
        same call tries again.

        Args:
            name: Its name.
            measure: Measures it; is given a function that takes the progress within it.
            depends_on: All that its numbers depend on and the folder is not refused for, as JSON values: what was found
                with other values is not taken. None where that cannot be said: then nothing is taken.
            is_needed: Whether there is nothing without it, so that an error ends everything.

        Raises:
            LayerTracerError: If it is needed and cannot be measured.
            KeyboardInterrupt: On Ctrl-C.
        """
        found = None if depends_on is None else self._found.get((name, _key(depends_on)))
        if found is None:
            began_s = time.process_time()
            self._tell(name, 0.0)
            try:
                found = measure(lambda progress: self._tell(name, progress.done / max(progress.total, 1)))
            except LayerTracerError as error:
                if is_needed:
                    raise
                self._tell(name, 1.0)
                return not_measured(str(error))
            found = Found(
                facts=found.facts,
                arrays=found.arrays,
                why_not=found.why_not,
                cpu_s=time.process_time() - began_s,
            )
            if depends_on is not None:
                self._keep(name, depends_on, found)
        self._tell(name, 1.0)
        return found

    def _keep(self, name: str, depends_on: Mapping[str, Any], found: Found) -> None:
        self._found[name, _key(depends_on)] = found
        meta = {"what": _WHAT, "stage": name, "depends_on": depends_on, "facts": found.facts}
        self._checkpoints.add({**meta, "why_not": found.why_not, "cpu_s": found.cpu_s}, found.arrays)

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


def _key(depends_on: Mapping[str, Any] | None) -> str:
    return json.dumps(depends_on, sort_keys=True)
