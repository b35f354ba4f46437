"""Parameters of tiny models: none at its default, activations of the order of 1, logits that spread.

Parameters are drawn from a generator; then whatever feeds the output is scaled until logits spread as those of a
trained model do. What single names mean is in `tiny_settings`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tests.support.models import tiny_settings as tiny

Says = Callable[[nn.Module, Tensor], Tensor]
"""From a model and token ids [batch, position] to logits [batch, position, d_vocab]."""


@torch.no_grad()
def undefaulted(
    module: nn.Module, says: Says, *, embedding_std: float, seed: int, logit_std: float = tiny.LOGIT_STD
) -> nn.Module:
    """The module with all its parameters drawn, which requires the gradients that it required.

    Args:
        module: What a constructor left.
        says: How it is asked. Only copies of the module are: RWKV divides its own weights at its first evaluation.
        embedding_std: Standard deviation of the token embeddings.
        seed: Seed of all parameters.
        logit_std: Standard deviation of the logits around their mean.
    """
    generator = torch.Generator().manual_seed(seed)
    zero_centred = {path for path, part in module.named_modules() if _is_zero_centred(part)}
    for path, values in _drawn(module):
        values.copy_(_values(module, path, values, embedding_std=embedding_std, generator=generator))
    _draw_expert_tables(module, generator)
    _spread_logits(module, says, zero_centred, std=logit_std)
    return module


def _drawn(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters, and the buffers that act as parameters, by path."""
    yield from module.named_parameters()
    saved = module.state_dict().keys()
    for path, buffer in module.named_buffers():
        if path in saved and buffer.is_floating_point() and path.rpartition(".")[2] in tiny.LEARNED_BUFFERS:
            yield path, buffer


def _draw_expert_tables(module: nn.Module, generator: torch.Generator) -> None:
    """Different experts for different tokens where a table by token id chooses them."""
    for path, table in module.named_buffers():
        parent, _, last = path.rpartition(".")
        if last in tiny.EXPERT_TABLES:
            n_experts = module.get_submodule(parent).weight.shape[0]
            order = torch.rand((table.shape[0], n_experts), generator=generator).argsort(-1)
            table.copy_(order[:, : table.shape[1]])


def _is_zero_centred(module: nn.Module) -> bool:
    """Whether the module is a norm that multiplies by `1 + weight`."""
    weight = getattr(module, "weight", None)
    is_norm = "norm" in type(module).__name__.lower()
    return is_norm and isinstance(weight, Tensor) and not weight.any().item()


def _values(
    module: nn.Module, path: str, values: Tensor, *, embedding_std: float, generator: torch.Generator
) -> Tensor:
    """Values for a parameter that are none of its defaults and keep activations of the order of 1."""
    noise = torch.randn(values.shape, generator=generator)
    parent, _, last = path.rpartition(".")
    owner = module.get_submodule(parent)
    for names, centre, scale in tiny.DRAWN_BY_NAME:
        if last in names or any(path.endswith(f".{name}") for name in names):
            return centre + scale * noise
    if (values == 1).all():
        return 1.0 + 0.3 * noise
    if values.numel() <= 1 or values.ndim == 1 or last.endswith("bias"):
        return 0.3 * noise
    if isinstance(owner, nn.Embedding) or ("embed" in path and not isinstance(owner, nn.Linear)):
        return embedding_std * noise
    gain = next((gain for words, gain in tiny.GAINS if any(word in path for word in words)), 1.3)
    return gain * noise / math.sqrt(_fan_in(owner, values))


def _fan_in(owner: nn.Module, values: Tensor) -> int:
    if "conv" in type(owner).__name__.lower() and values.ndim > 2:
        return math.prod(values.shape[1:])
    return values.shape[-2] if type(owner).__name__ == "Conv1D" else values.shape[-1]


def _spread_logits(module: nn.Module, says: Says, zero_centred: set[str], *, std: float) -> None:
    """Scale what feeds the output until logits have the wanted standard deviation."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, tiny.D_VOCAB, (4, 12), generator=generator)
    targets = _outputs(module, says, ids)
    for _ in range(10):
        logits = says(copy.deepcopy(module), ids)
        factor = std / (logits - logits.mean(-1, keepdim=True)).std().item()
        if not math.isfinite(factor) or abs(factor - 1) < 0.02:
            return
        for target in targets:
            _scale(module.get_submodule(target), min(4.0, max(0.25, factor)), is_zero_centred=target in zero_centred)


def _outputs(module: nn.Module, says: Says, ids: Tensor) -> list[str]:
    """Path of the last module that runs with a weight of its own, not the embeddings', and its siblings in a list."""
    trial = copy.deepcopy(module)
    embeddings = {id(part.weight) for part in trial.modules() if isinstance(part, nn.Embedding)}
    order: list[str] = []
    for path, part in trial.named_modules():
        weights = [parameter for key, parameter in part.named_parameters(recurse=False) if not key.endswith("bias")]
        is_leaf = len(list(part.parameters())) == len(list(part.parameters(recurse=False)))
        if is_leaf and weights and not any(id(parameter) in embeddings for parameter in weights):
            part.register_forward_hook(lambda *_, path=path: order.append(path))
    says(trial, ids)
    siblings, _, last = order[-1].rpartition(".")
    if not last.isdecimal():
        return order[-1:]
    return [f"{siblings}.{index}" for index in range(len(module.get_submodule(siblings)))]


def _scale(module: nn.Module, factor: float, *, is_zero_centred: bool) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight" and is_zero_centred:
            parameter.copy_((1.0 + parameter) * factor - 1.0)
        else:
            parameter.mul_(factor)
