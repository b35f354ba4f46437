"""One door to the tiny models: each is built and wrapped once a process, with gradients on, and no test may change it.

A name is that of a quick family (`models/families.py`), "hybrid" or "planted", or a model type of the registry
(`models/registry.py`), "encdec:" before it where the model of encoder and decoder is meant.
"""

from __future__ import annotations

import hashlib
from functools import cache

from torch import nn

import layertracer as lt

from tests.support.models import registry
from tests.support.models.families import BY_NAME, build_tiny
from tests.support.models.hybrids import Hybrid
from tests.support.models.planted import PlantedModel

_states: dict[str, str] = {}


@cache
def tiny(name: str) -> lt.TracedModel:
    """A tiny model, told by nothing but the module; the same one for all tests of the process."""
    model = lt.wrap_model(fresh(name), name=name)
    _states[name] = _state_of(model.module)
    return model


def fresh(name: str) -> nn.Module:
    """The module of such a model, for a test that changes it: in evaluation mode, with gradients on, never run."""
    if name in ("hybrid", "planted"):
        return Hybrid() if name == "hybrid" else PlantedModel()
    if name in BY_NAME:
        return build_tiny(name)
    return registry.build(name.removeprefix("encdec:"), encoder_decoder=name.startswith("encdec:"))


def changed() -> list[str]:
    """Names of the shared models that are no longer as they were when they had been wrapped."""
    return [name for name, state in _states.items() if _state_of(tiny(name).module) != state]


def _state_of(module: nn.Module) -> str:
    """A name for all that tests might change: parameters, whether they require gradients, modes and hooks."""
    digest = hashlib.sha256()
    for path, parameter in module.named_parameters():
        digest.update(f"{path} {parameter.requires_grad} {parameter.dtype} {parameter.device}".encode())
        digest.update(parameter.detach().numpy().tobytes())
    for path, part in module.named_modules():
        n_hooks = len(part._forward_hooks), len(part._forward_pre_hooks)
        digest.update(f"{path} {type(part)} {part.training} {n_hooks}".encode())
    return digest.hexdigest()
