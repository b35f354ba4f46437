"""A hybrid language model whose layers are an attention, a running mean or an MLP alone, or a mixer and an MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.support.models.plain_modules import CausalSelfAttention, FeedForward

D_MODEL, D_VOCAB = 24, 41
LAYERS = "layers"
KINDS = ("mean", "mlp", "attention", "attention+mlp", "mlp", "mean+mlp")
"""What every layer is made of. The first and the fifth lack one site, and so does the third."""

BRANCHES = {"mixer_output": "mixer", "mlp_output": "mlp"}
HAVING = {
    "mixer_output": tuple(layer for layer, kind in enumerate(KINDS) if kind != "mlp"),
    "mlp_output": tuple(layer for layer, kind in enumerate(KINDS) if "mlp" in kind),
    "block_output": tuple(range(len(KINDS))),
}
"""The layers that have a site."""

MIXERS = ("linear_attention", "none", "attention", "attention", "none", "linear_attention")


class RunningMean(nn.Module):
    """The mean over the past, between two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(D_MODEL, D_MODEL), nn.Linear(D_MODEL, D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """What is added to the stream."""
        counts = torch.arange(1, stream.shape[1] + 1, device=stream.device)[:, None]
        written: Tensor = self.after(self.before(stream).cumsum(1) / counts)
        return written


class HybridLayer(nn.Module):
    """A layer with a mixer, an MLP, or both, each behind its own norm."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if "mean" in kind or "attention" in kind:
            self.norm_1 = nn.LayerNorm(D_MODEL)
            self.mixer = RunningMean() if "mean" in kind else CausalSelfAttention(D_MODEL, 4)
        if "mlp" in kind:
            self.norm_2, self.mlp = nn.LayerNorm(D_MODEL), FeedForward(D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer."""
        if hasattr(self, "mixer"):
            stream = stream + self.mixer(self.norm_1(stream))
        if hasattr(self, "mlp"):
            stream = stream + self.mlp(self.norm_2(stream))
        return stream


class Hybrid(nn.Module):
    """Token ids [batch, position] in, logits [batch, position, d_vocab] out; no parameter at its default."""

    @torch.no_grad()
    def __init__(self, kinds: Sequence[str] = KINDS) -> None:
        super().__init__()
        self.embed = nn.Embedding(D_VOCAB, D_MODEL)
        self.layers = nn.ModuleList(HybridLayer(kind) for kind in kinds)
        self.norm, self.head = nn.LayerNorm(D_MODEL), nn.Linear(D_MODEL, D_VOCAB)
        self.eval()
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_vector = parameter.ndim == 1
            parameter.copy_(parameter + 0.3 * noise if is_vector else 1.4 * noise / parameter.shape[-1] ** 0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream = self.embed(ids)
        for layer in self.layers:
            stream = layer(stream)
        logits: Tensor = 2.0 * self.head(self.norm(stream))
        return logits
