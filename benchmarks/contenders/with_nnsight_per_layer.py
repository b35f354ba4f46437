"""nnsight, one trace for each layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nnsight.modeling.transformers import TransformersModel

from benchmarks.divergence import js_bits, log_probs_of


def load(_model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by one trace for each layer, all prompts in one batch."""
    model = TransformersModel(folder, task="text-generation", dtype=torch.float32, device_map="cpu", dispatch=True)

    @torch.inference_mode()
    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer], for the first layers, as many as there are masks."""
        with model.trace(ids, use_cache=False, logits_to_keep=1):
            clean_logits = model.output.logits[:, -1].save()
        clean = log_probs_of(clean_logits)
        divergences = []
        for layer in range(len(keep)):
            with model.trace(ids, use_cache=False, logits_to_keep=1):
                model.model.layers[layer].output = model.model.layers[layer].output * keep[layer]
                masked_logits = model.output.logits[:, -1].save()
            divergences.append(js_bits(clean, log_probs_of(masked_logits)))
        return torch.stack(divergences, dim=1)

    return sweep
