"""nnsight, several layers in one trace: its invokes share one forward, each in rows of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nnsight.modeling.transformers import TransformersModel

from benchmarks.divergence import js_bits, log_probs_of

# Fewer positions leave the processor waiting for calls, more bring nothing: at 8 prompts of 22 tokens, 3, 10 and 30
# layers in one trace take the same time.
_MAX_POSITIONS = 1024


def load(_model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by traces with one invoke for each layer."""
    model = TransformersModel(folder, task="text-generation", dtype=torch.float32, device_map="cpu", dispatch=True)

    @torch.inference_mode()
    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer], for the first layers, as many as there are masks."""
        with model.trace(ids, use_cache=False, logits_to_keep=1):
            clean_logits = model.output.logits[:, -1].save()
        clean = log_probs_of(clean_logits)
        n_together = max(1, _MAX_POSITIONS // ids.numel())
        divergences = []
        for first in range(0, len(keep), n_together):
            with model.trace(use_cache=False, logits_to_keep=1) as tracer:
                masked_logits = [].save()  # type: ignore[attr-defined]  # nnsight gives every object a `save`
                for layer in range(first, min(first + n_together, len(keep))):
                    with tracer.invoke(ids):
                        model.model.layers[layer].output = model.model.layers[layer].output * keep[layer]
                        masked_logits.append(model.output.logits[:, -1])
            divergences += [js_bits(clean, log_probs_of(logits)) for logits in masked_logits]
        return torch.stack(divergences, dim=1)

    return sweep
