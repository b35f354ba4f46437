"""LayerTracer, through its public interface."""

from __future__ import annotations

from collections.abc import Callable

import torch

import layertracer as lt


def load(model: str, folder: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The job, done by one trace. What is proved once about a model's cache is proved here, as a part of loading."""
    traced = lt.load_model("smollm2" if model == "smollm2" else folder, device="cpu", dtype="float32")
    two = [lt.Sample(prompt_ids=(*range(5, 37), own), answer_id=3) for own in (43, 44)]
    lt.trace(traced, two, share_prefix=True)

    def sweep(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """JS divergence in bits, [prompt, layer]."""
        samples = [lt.Sample(prompt_ids=tuple(row), answer_id=3) for row in ids.tolist()]
        trace = lt.trace(traced, samples, perturbation=lt.Mask.explicit(keep[:, None].numpy()))
        return torch.tensor(trace.js_bits[:, 0])

    return sweep
