"""nnterp: nnsight with one naming scheme for all Transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nnterp import StandardizedTransformer

from benchmarks.divergence import js_bits, log_probs_of

_MAX_POSITIONS = 1024
"""As for nnsight."""


def load(_model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by traces with one invoke for each layer."""
    model = StandardizedTransformer(folder, dtype=torch.float32, device_map="cpu")

    @torch.inference_mode()
    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer], for the first layers, as many as there are masks."""
        # With nnsight 0.7, the second and later invokes of a trace lose the attention mask unless they bring one.
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with model.trace(inputs, use_cache=False, logits_to_keep=1):
            clean_logits = model.logits[:, -1].save()
        clean = log_probs_of(clean_logits)
        n_together = max(1, _MAX_POSITIONS // ids.numel())
        divergences = []
        for first in range(0, len(keep), n_together):
            with model.trace(use_cache=False, logits_to_keep=1) as tracer:
                masked_logits = [].save()  # type: ignore[attr-defined]  # nnsight gives every object a `save`
                for layer in range(first, min(first + n_together, len(keep))):
                    with tracer.invoke(inputs):
                        model.layers_output[layer] = model.layers_output[layer] * keep[layer]
                        # `model.logits` would be those of all invokes: only plain tensors are cut to an invoke's rows.
                        masked_logits.append(model.lm_head.output[:, -1])
            divergences += [js_bits(clean, log_probs_of(logits)) for logits in masked_logits]
        return torch.stack(divergences, dim=1)

    return sweep
