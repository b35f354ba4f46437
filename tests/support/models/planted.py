"""A language model whose two answers are known because they were built in.

The stream is a row of fields: whether this is the first token, the token (one-hot), the answer (one-hot), pairs of
keys, and scratch. Every layer adds noise to the scratch and next to nothing to the answer. Two layers do more:

- The mixer of `answer_layer` looks back at the first token and writes that token's successor into the answer field:
  there the probability of the answer jumps from about nothing to about 0.9.
- `fragile_layer` writes 1 into both keys of every pair, one with its mixer, the other with its MLP. What follows reads
  the difference of the two, which is 0 unless a mask has hit one of them, writes it into the answer field as a wrong
  answer, and clears the keys. So masks destroy the output there, at all three sites, and hardly anywhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_TOKENS = 19
N_PAIRS = 24
N_SCRATCH = 8
TOKEN = 1
ANSWER = TOKEN + N_TOKENS
KEYS = ANSWER + N_TOKENS
D_MODEL = KEYS + 2 * N_PAIRS + N_SCRATCH
ANSWER_LOGIT = 5.5
ANSWER_NOISE = 0.005
SCRATCH_NOISE = 0.5
WRONG_TOKEN = 0


def planted_answer(ids: tuple[int, ...]) -> int:
    """The token that the planted model answers with: the successor of the prompt's first one, never the wrong token."""
    return ids[0] % (N_TOKENS - 1) + 1


class LookBack(nn.Module):
    """Causal attention in which every position attends to the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(D_MODEL, 1)
        self.key = nn.Linear(D_MODEL, 1)
        self.value = nn.Linear(D_MODEL, D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """What the attention adds to the stream."""
        scores = self.query(stream) @ self.key(stream).transpose(-1, -2)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=stream.device).triu(1)
        return scores.masked_fill(future, float("-inf")).softmax(-1) @ self.value(stream)


class Closing(nn.Module):
    """Reads the differences of key pairs, writes a wrong answer for them, and clears the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(D_MODEL, 2 * N_PAIRS + N_TOKENS, bias=False)
        self.write = nn.Linear(2 * N_PAIRS + N_TOKENS, D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """What the MLP adds to the stream."""
        return self.write(torch.relu(self.read(stream)))


class PlantedBlock(nn.Module):
    """A residual block without norms."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = LookBack()
        self.mlp = Closing()

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the block."""
        stream = stream + self.mixer(stream)
        return stream + self.mlp(stream)


class PlantedModel(nn.Module):
    """The planted model: token ids [batch, position] in, logits [batch, position, d_vocab] out.

    Attributes:
        answer_layer: Layer at which the answer enters the stream.
        fragile_layer: Layer whose masking destroys the output.
    """

    def __init__(self, *, n_layers: int = 6, answer_layer: int = 3, fragile_layer: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.answer_layer = answer_layer
        self.fragile_layer = fragile_layer
        self.blocks = nn.ModuleList([PlantedBlock() for _ in range(n_layers)])
        self.closing = Closing()
        self.unembed = nn.Linear(D_MODEL, N_TOKENS)
        self.eval()
        self._plant(torch.Generator().manual_seed(seed))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream = torch.zeros(*ids.shape, D_MODEL, device=ids.device, dtype=self.unembed.weight.dtype)
        stream[:, 0, 0] = 1.0
        stream[..., TOKEN:ANSWER] = nn.functional.one_hot(ids, N_TOKENS).to(stream.dtype)
        for block in self.blocks:
            stream = block(stream)
        return self.unembed(stream + self.closing(stream))

    @torch.no_grad()
    def _plant(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            parameter.zero_()
        for block in self.blocks:
            block.mixer.query.bias.fill_(1.0)
            block.mixer.key.weight[0, 0] = 12.0
            _write_noise(block, generator)
        _write_answer(self.blocks[self.answer_layer].mixer)
        _write_keys(self.blocks[self.fragile_layer])
        following = [*(block.mlp for block in self.blocks), self.closing][self.fragile_layer + 1]
        _read_keys(following)
        for token in range(N_TOKENS):
            self.unembed.weight[token, ANSWER + token] = ANSWER_LOGIT


def _write_noise(block: PlantedBlock, generator: torch.Generator) -> None:
    """Let both branches of a layer depend on the token and move the answer and the scratch a little."""
    answer, scratch = slice(ANSWER, KEYS), slice(KEYS + 2 * N_PAIRS, D_MODEL)
    value, read, write = block.mixer.value.weight, block.mlp.read.weight, block.mlp.write.weight
    for field, scale in ((answer, ANSWER_NOISE), (scratch, SCRATCH_NOISE)):
        width = value[field].shape[0]
        value[field, TOKEN:ANSWER] = scale * torch.randn(width, N_TOKENS, generator=generator)
        write[field, 2 * N_PAIRS :] = scale * torch.randn(width, N_TOKENS, generator=generator)
    read[2 * N_PAIRS :, TOKEN:ANSWER] = torch.eye(N_TOKENS)


def _write_answer(mixer: LookBack) -> None:
    for token in range(N_TOKENS):
        mixer.value.weight[ANSWER + planted_answer((token,)), TOKEN + token] += 1.0


def _write_keys(block: PlantedBlock) -> None:
    for pair in range(N_PAIRS):
        block.mixer.value.bias[KEYS + 2 * pair] += 1.0
        block.mlp.write.bias[KEYS + 2 * pair + 1] += 1.0


def _read_keys(mlp: Closing) -> None:
    for pair in range(N_PAIRS):
        first, second = KEYS + 2 * pair, KEYS + 2 * pair + 1
        for unit, sign in ((2 * pair, 1.0), (2 * pair + 1, -1.0)):
            mlp.read.weight[unit, first], mlp.read.weight[unit, second] = sign, -sign
            mlp.write.weight[ANSWER + WRONG_TOKEN, unit] = 1.0
        mlp.write.bias[first] -= 1.0
        mlp.write.bias[second] -= 1.0
