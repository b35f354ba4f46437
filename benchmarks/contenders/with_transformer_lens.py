"""TransformerLens 4: the bridge over the model of Transformers, its weights as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.divergence import js_bits, log_probs_of


def load(_model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by one hooked forward for each layer, all prompts in one batch."""
    # Without its compatibility mode, which folds norms and centres weights and is no faster.
    model: Any = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32).eval()

    def last_log_probs(ids: torch.Tensor, hooks: list[tuple[str, Callable[..., torch.Tensor]]]) -> torch.Tensor:
        logits = model.run_with_hooks(ids, fwd_hooks=hooks, use_cache=False, logits_to_keep=1)
        return log_probs_of(logits[:, -1])

    @torch.inference_mode()
    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer], for the first layers, as many as there are masks."""
        clean = last_log_probs(ids, [])
        divergences = []
        for layer, mask in enumerate(keep):
            hook = (f"blocks.{layer}.hook_resid_post", lambda stream, hook, mask=mask: stream * mask)  # noqa: ARG005 - named so by TransformerLens
            divergences.append(js_bits(clean, last_log_probs(ids, [hook])))
        return torch.stack(divergences, dim=1)

    return sweep
