"""Causal tracing of the task's prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer.evidence import CausalRecord
from layertracer.runs import from_tree, to_tree
from layertracer.tracing import Progress
from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.question import Asked, ask
from layertracer.validation._causal.trace import trace_causally
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured

_APART = "/"


def trace_task_causally(setting: Setting, tell: Callable[[Progress], None]) -> Found:
    """The causal trace of the task's prompts, the costly form of it on the first ones.

    Raises:
        TaskError: If no prompt can be used; the message counts the reasons.
    """
    if setting.model.network.call.has_encoder:
        return not_measured(
            f"{setting.model.name!r} reads prompts with an encoder, and causal tracing patches the layers of one stack."
        )
    record = trace_causally(
        setting.model,
        setting.causal_samples,
        _settings(setting),
        on_progress=tell,
    )
    arrays: dict[str, NDArray[Any]] = {}
    facts = _without_arrays(to_tree(record, keep_arrays=True), arrays, "")
    return Found(facts={"causal": facts}, arrays=arrays)


def asked_causally(setting: Setting) -> tuple[CausalSettings, Asked]:
    """What causal tracing is asked, and the prompts as it runs them.

    Raises:
        LayerTracerError: If they cannot be run.
    """
    settings = _settings(setting)
    return settings, ask(setting.model, setting.causal_samples, settings)


def _settings(setting: Setting) -> CausalSettings:
    options = setting.options
    asked: dict[str, Any] = {} if options.causal is None else {"corrupt": options.causal}
    return CausalSettings(**asked, seed=options.seed, audit=options.audit, memory=options.memory)


def unpack_causal(found: Found) -> CausalRecord:
    """The causal trace of a stage."""
    return from_tree(CausalRecord, _with_arrays(found.facts["causal"], found.arrays, ""))


def _without_arrays(tree: Any, arrays: dict[str, NDArray[Any]], path: str) -> Any:
    """A tree without its arrays, which are put beside it under their paths."""
    if isinstance(tree, np.ndarray):
        arrays[path] = tree
        return None
    if isinstance(tree, Mapping):
        return {name: _without_arrays(value, arrays, f"{path}{_APART}{name}") for name, value in tree.items()}
    return tree


def _with_arrays(tree: Any, arrays: Mapping[str, NDArray[Any]], path: str) -> Any:
    if path in arrays:
        return arrays[path]
    if isinstance(tree, Mapping):
        return {name: _with_arrays(value, arrays, f"{path}{_APART}{name}") for name, value in tree.items()}
    return tree
