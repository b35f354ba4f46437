"""Plain PyTorch hooks: what a careful user writes without any library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.divergence import js_bits, log_probs_of


def load(_model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by one hooked forward for each layer, all prompts in one batch."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()

    def last_log_probs(ids: torch.Tensor) -> torch.Tensor:
        return log_probs_of(model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1])

    @torch.inference_mode()
    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer], for the first layers, as many as there are masks."""
        clean = last_log_probs(ids)
        divergences = []
        for layer, mask in zip(model.model.layers, keep, strict=False):
            handle = layer.register_forward_hook(lambda _module, _inputs, output, mask=mask: output * mask)
            try:
                divergences.append(js_bits(clean, last_log_probs(ids)))
            finally:
                handle.remove()
        return torch.stack(divergences, dim=1)

    return sweep
