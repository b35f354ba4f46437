"""Where a language model starts executing a task, and where it breaks most easily.

    >>> import layertracer as lt
    >>> model = lt.load_model("smollm2")                        # doctest: +SKIP
    >>> trace = lt.trace(model, lt.load_task("antonym"))        # doctest: +SKIP
    >>> trace.task_particle.layer, trace.vulnerable_layer.layer  # doctest: +SKIP

Importing this package imports nothing else: each name below is fetched from its own package when it is first used, so
that a stored run can be read, compared and drawn without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layertracer._errors import (
        AnatomyError,
        AnswerError,
        DamagedRunError,
        EmptyTaskError,
        LayerTracerError,
        ModelError,
        ModelLoadError,
        NonFiniteError,
        OutOfMemoryError,
        PromptTooLongError,
        RemoteCodeError,
        RunError,
        RunFormatError,
        SelfCheckError,
        SiteError,
        TaskError,
        TaskFileError,
        UnknownNameError,
        UsageError,
    )
    from layertracer._types import (
        Mask,
        MeanMixer,
        MixerGroup,
        Noise,
        NoMixer,
        Sample,
        SelfCheck,
        Skip,
        TaskParticle,
        VulnerableLayer,
        Window,
    )
    from layertracer.advice import DesignPlan, Placement
    from layertracer.api import (
        Advice,
        CausalTrace,
        Comparison,
        Evidence,
        Trace,
        causal_trace,
        compare,
        design,
        evaluate_placement,
        fit_lens,
        load_advice,
        load_causal,
        load_evidence,
        load_lens,
        load_placement,
        load_run,
        plan,
        plan_design,
        plan_validation,
        read_grid,
        read_layers,
        trace,
        validate,
        verify_run,
    )
    from layertracer.comparisons import ComparisonSettings
    from layertracer.measures import AbsRatio, ChangePoint, FirstTop1, HalfMax, Ratio, Rise
    from layertracer.tasks import Task, list_tasks, load_task
    from layertracer.tracing import (
        Readout,
        TracedModel,
        TracePlan,
        js_divergence,
        load_model,
        wrap_model,
    )

    __version__: str

__all__ = [
    "AbsRatio",
    "Advice",
    "AnatomyError",
    "AnswerError",
    "CausalTrace",
    "ChangePoint",
    "Comparison",
    "ComparisonSettings",
    "DamagedRunError",
    "DesignPlan",
    "EmptyTaskError",
    "Evidence",
    "FirstTop1",
    "HalfMax",
    "LayerTracerError",
    "Mask",
    "MeanMixer",
    "MixerGroup",
    "ModelError",
    "ModelLoadError",
    "NoMixer",
    "Noise",
    "NonFiniteError",
    "OutOfMemoryError",
    "Placement",
    "PromptTooLongError",
    "Ratio",
    "Readout",
    "RemoteCodeError",
    "Rise",
    "RunError",
    "RunFormatError",
    "Sample",
    "SelfCheck",
    "SelfCheckError",
    "SiteError",
    "Skip",
    "Task",
    "TaskError",
    "TaskFileError",
    "TaskParticle",
    "Trace",
    "TracePlan",
    "TracedModel",
    "UnknownNameError",
    "UsageError",
    "VulnerableLayer",
    "Window",
    "__version__",
    "causal_trace",
    "compare",
    "design",
    "evaluate_placement",
    "fit_lens",
    "js_divergence",
    "list_tasks",
    "load_advice",
    "load_causal",
    "load_evidence",
    "load_lens",
    "load_model",
    "load_placement",
    "load_run",
    "load_task",
    "plan",
    "plan_design",
    "plan_validation",
    "read_grid",
    "read_layers",
    "trace",
    "validate",
    "verify_run",
    "wrap_model",
]

# Names that do not live in `_errors`, by the package that they live in.
_HOMES = {
    "_types": (
        "Mask",
        "MeanMixer",
        "MixerGroup",
        "NoMixer",
        "Noise",
        "Sample",
        "SelfCheck",
        "Skip",
        "TaskParticle",
        "VulnerableLayer",
        "Window",
    ),
    "advice": ("DesignPlan", "Placement"),
    "api": (
        "Advice",
        "CausalTrace",
        "Comparison",
        "Evidence",
        "Trace",
        "causal_trace",
        "compare",
        "design",
        "evaluate_placement",
        "fit_lens",
        "load_advice",
        "load_lens",
        "load_evidence",
        "load_causal",
        "load_placement",
        "load_run",
        "plan",
        "plan_design",
        "plan_validation",
        "read_grid",
        "read_layers",
        "trace",
        "validate",
        "verify_run",
    ),
    "comparisons": ("ComparisonSettings",),
    "measures": ("AbsRatio", "ChangePoint", "FirstTop1", "HalfMax", "Ratio", "Rise"),
    "tasks": ("Task", "list_tasks", "load_task"),
    "tracing": ("Readout", "TracePlan", "TracedModel", "js_divergence", "load_model", "wrap_model"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """The public name, imported now and kept (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("layertracer")
    else:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return list(__all__)
