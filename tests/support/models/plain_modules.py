"""Language models that are nothing but `torch.nn.Module`: no config, no base class, outputs of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalSelfAttention(nn.Module):
    """Attention with one projection for queries, keys and values."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """What the attention adds to the stream."""
        batch, width, d_model = x.shape
        parts = self.c_attn(x).view(batch, width, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, width, d_model))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(d_model, 2 * d_model)
        self.c_proj = nn.Linear(2 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """What the MLP adds to the stream."""
        return self.c_proj(functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    """A pre-norm block."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(d_model)
        self.attn = CausalSelfAttention(d_model, n_heads)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp = FeedForward(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """A small GPT as people write it: learned positions, `(logits, loss)` out."""

    def __init__(self, *, d_vocab: int, d_model: int, n_layers: int, n_heads: int, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(d_vocab, d_model),
                "wpe": nn.Embedding(max_length, d_model),
                "h": nn.ModuleList([Block(d_model, n_heads) for _ in range(n_layers)]),
                "ln_f": nn.LayerNorm(d_model),
            }
        )
        self.lm_head = nn.Linear(d_model, d_vocab, bias=False)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits of every position, and the loss where targets are given."""
        assert ids.shape[1] <= self.max_length, f"{ids.shape[1]} tokens, at most {self.max_length}"
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(ids.shape[1], device=ids.device))
        for block in self.transformer["h"]:
            x = block(x)
        logits = self.lm_head(self.transformer["ln_f"](x))
        loss = None if targets is None else functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


class TorchEncoderDecoder(nn.Module):
    """A decoder out of PyTorch's own encoder layers and a causal mask; its logits are a bare tensor."""

    def __init__(self, *, d_vocab: int, d_model: int, n_layers: int, n_heads: int, max_length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(d_vocab, d_model)
        self.embed_positions = nn.Embedding(max_length, d_model)
        layer = nn.TransformerEncoderLayer(d_model, n_heads, 48, batch_first=True, norm_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, n_layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.head = nn.Linear(d_model, d_vocab)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        x = self.embed(ids) + self.embed_positions(torch.arange(ids.shape[1], device=ids.device))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=ids.device)
        return self.head(self.encoder(x, mask=mask, is_causal=True))
