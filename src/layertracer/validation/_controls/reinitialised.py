"""A model of the same form with weights drawn anew: what is found there comes of the form, not of what was learnt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import LayerTracerError
from layertracer._types import Mask, Site
from layertracer.models import is_out_of_memory, is_placed, is_quantised
from layertracer.tracing import Progress, TracedModel, trace_model, wrap_model
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.traces import options_of, pack_trace

_NAME = "with weights drawn anew"


def reinitialised(model: TracedModel, *, seed: int) -> TracedModel | str:
    """The model with weights drawn anew, or why there is none; the user's own stays as it is.

    Matrices are drawn from normal distributions of the mean and spread that each has; the entries of vectors, such as
    the weights of norms, are shuffled. So sizes of activations stay in range, and nothing that was learnt is left.

    Args:
        model: The model.
        seed: Seed of the weights.
    """
    if is_placed(model.module):
        return "its weights are spread over devices or lie on a disk"
    if is_quantised(model.module):
        return "its weights are quantised"
    try:
        module = copy.deepcopy(model.module)
        draw_weights(module, torch.Generator().manual_seed(seed))
        container = model.anatomy.layers[0].path.rpartition(".")[0]
        return wrap_model(module, model.tokenizer, name=f"{model.name} {_NAME}", layers=container or None)
    except LayerTracerError as error:
        return f"it cannot be read {_NAME}: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises when it is copied
        if is_out_of_memory(error) or isinstance(error, MemoryError):
            return "there is no memory for a copy of it"
        return f"it cannot be copied ({type(error).__name__}: {error})"


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a module anew, in place; shared ones once.

    Laws: equal generators give equal weights; shapes, types and devices stay.
    """
    for parameter in module.parameters():
        if not parameter.is_floating_point():
            continue
        values = parameter.detach().float().cpu()
        parameter.copy_(_drawn(values, generator).to(parameter.device, parameter.dtype))


def _drawn(values: Tensor, generator: torch.Generator) -> Tensor:
    if values.ndim < 2 or values.numel() == max(values.shape):
        flat = values.flatten()
        return flat[torch.randperm(len(flat), generator=generator)].reshape(values.shape)
    spread = values.std() if values.numel() > 1 else values.new_zeros(())
    return values.mean() + spread * torch.randn(values.shape, generator=generator)


def trace_reinitialised(setting: Setting, sites: Sequence[Site], tell: Callable[[Progress], None]) -> Found:
    """The trace of the first prompts with weights drawn anew.

    Returns:
        As `trace_sites`; without a reason where the model cannot be copied.
    """
    made = reinitialised(setting.model, seed=setting.options.seed)
    if isinstance(made, str):
        return not_measured(f"{setting.model.name!r} has no copy with other weights: {made}.")
    masks: list[Any] = [Mask(site=site, seed=setting.options.seed) for site in sites]
    try:
        record = trace_model(made, setting.few, options_of(setting, masks), on_progress=tell)
    except LayerTracerError as error:
        return not_measured(f"The copy with other weights cannot be traced: {error}")
    return pack_trace(record)
