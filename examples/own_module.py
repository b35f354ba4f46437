"""A trace of a PyTorch module of one's own: token ids in, logits out, and nothing to register."""

import torch
from torch import Tensor, nn

import layertracer as lt


class Layer(nn.Module):
    """A running mean over the past instead of attention, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mixer = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after this layer, [batch, position, width]."""
        n_seen = torch.arange(1, stream.shape[1] + 1, device=stream.device)[:, None]
        mixed: Tensor = stream + self.mixer(stream.cumsum(1) / n_seen)
        written: Tensor = mixed + self.mlp(mixed)
        return written


class TinyModel(nn.Module):
    """An embedding, six layers, a norm and an unembedding."""

    def __init__(self, d_vocab: int = 50, width: int = 32, n_layers: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(d_vocab, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, d_vocab)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits, [batch, position, d_vocab]."""
        stream = self.embed(token_ids)
        for layer in self.layers:
            stream = layer(stream)
        logits: Tensor = 10 * self.unembed(self.norm(stream))
        return logits


model = lt.wrap_model(TinyModel(), name="tiny")
samples = [lt.Sample(prompt_ids=(1, 5, 9, first), answer_id=7) for first in range(10, 18)]

readout = lt.read_layers(model, samples)
print(f"readouts [prompt, layer, d_vocab]: {list(readout.log_probs.shape)}")

trace = lt.trace(model, samples, perturbation=lt.Mask(fraction=0.25, draws=4), target="model")
for name, error in model.self_check.errors.items():
    print(f"self-check {name}: error {error:.1e}")
found = trace.vulnerable_layer
standing = "clear" if found.is_clear else f"one of {len(found.contenders)} contenders"
print(f"vulnerable layer: {found.layer} of 0 to {model.anatomy.n_layers - 1}, {standing}")
