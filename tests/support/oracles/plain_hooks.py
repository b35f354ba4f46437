"""The numbers that LayerTracer must reproduce, obtained the slow and obvious way.

One prompt at a time, one hooked forward per layer and draw, plain `register_forward_hook`, arithmetic on
distributions in float64. Where a branch adds to the stream is written down by hand for every family. Nothing
here imports LayerTracer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Edit = Callable[[Tensor, Tensor], Tensor]
"""From what a module received as its stream and what it made of it to what it shall return."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Where one branch of a layer hands its addition to the stream.

    Attributes:
        module: Path below the layer of the module whose output is the addition.
        adds_residual: The module adds the residual itself; the addition is its output minus its second argument.
    """

    module: str
    adds_residual: bool = False


_ATTENTION_MLP = {"mixer_output": (Branch(module="self_attn"),), "mlp_output": (Branch(module="mlp"),)}
_POST_NORMS = {
    "mixer_output": (Branch(module="post_attention_layernorm"),),
    "mlp_output": (Branch(module="post_feedforward_layernorm"),),
}
_GPT2 = {"mixer_output": (Branch(module="attn"),), "mlp_output": (Branch(module="mlp"),)}
_NEOX = {"mixer_output": (Branch(module="attention"),), "mlp_output": (Branch(module="mlp"),)}
_FALCON = {"mixer_output": (Branch(module="self_attention"),), "mlp_output": (Branch(module="mlp"),)}
_BLOOM = {
    "mixer_output": (Branch(module="self_attention", adds_residual=True),),
    "mlp_output": (Branch(module="mlp", adds_residual=True),),
}
_DELTA = {
    "mixer_output": (Branch(module="linear_attn"), Branch(module="self_attn")),
    "mlp_output": (Branch(module="mlp"),),
}
_MAMBA: dict[str, tuple[Branch, ...]] = {"mixer_output": (Branch(module="mixer"),), "mlp_output": ()}

BRANCHES: dict[str, dict[str, tuple[Branch, ...]]] = {
    "llama": _ATTENTION_MLP,
    "mistral": _ATTENTION_MLP,
    "qwen2": _ATTENTION_MLP,
    "qwen3": _ATTENTION_MLP,
    "qwen3_moe": _ATTENTION_MLP,
    "gemma2": _POST_NORMS,
    "gemma3_text": _POST_NORMS,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "gpt_neox_sequential": _NEOX,
    # The last linear map of OPT's MLP sees all positions of the batch as rows of one matrix.
    "opt": {"mixer_output": (Branch(module="self_attn"),), "mlp_output": (Branch(module="fc2"),)},
    "phi": _ATTENTION_MLP,
    "falcon": _FALCON,
    "falcon_new_decoder": _FALCON,
    "falcon_sequential": _FALCON,
    "falcon_alibi": _FALCON,
    "bloom": _BLOOM,
    "cohere": _ATTENTION_MLP,
    # Granite multiplies both branches by a constant afterwards, which commutes with a mask.
    "granite": _ATTENTION_MLP,
    "olmo2": _POST_NORMS,
    "mixtral": _ATTENTION_MLP,
    "mamba": _MAMBA,
    "mamba2": _MAMBA,
    "qwen3_next": _DELTA,
    "qwen3_5_text": _DELTA,
    "jamba": {
        "mixer_output": (Branch(module="mamba"), Branch(module="self_attn")),
        "mlp_output": (Branch(module="feed_forward"),),
    },
    "rwkv": {"mixer_output": (Branch(module="attention"),), "mlp_output": (Branch(module="feed_forward"),)},
    "nanogpt": _GPT2,
    "torch_encoder": {"mixer_output": (Branch(module="self_attn"),), "mlp_output": (Branch(module="linear2"),)},
    "planted": {"mixer_output": (Branch(module="mixer"),), "mlp_output": (Branch(module="mlp"),)},
}
"""By family and site: the branches of a layer; of several alternatives each layer has exactly one."""

INNER_INPUTS: dict[tuple[str, int], str] = {("rwkv", 0): "pre_ln"}
"""Layers that transform the stream before their branches read it, by the module that does so."""


def plain_logits(module: nn.Module, ids: Sequence[int]) -> NDArray[np.float64]:
    """The model's own logits at the last position of one prompt, float64 [d_vocab]."""
    tokens = torch.tensor([list(ids)], device=next(module.parameters()).device)
    with torch.no_grad():
        output = module(tokens, use_cache=False) if hasattr(module, "config") else module(tokens)
    if not isinstance(output, Tensor):
        output = output[0] if isinstance(output, tuple) else output.logits
    return output[0, -1].to(torch.float64).cpu().numpy()


def plain_log_probs(module: nn.Module, ids: Sequence[int]) -> NDArray[np.float64]:
    """The model's own log-probabilities of the next token, float64 [d_vocab]."""
    logits = plain_logits(module, ids)
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def plain_readouts(
    module: nn.Module, layers: str, ids: Sequence[int], *, only: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Log-probabilities read after every layer: all later layers are the identity, float64 [layer, d_vocab].

    With `only`, of these layers alone.
    """
    stack = list(module.get_submodule(layers))
    chosen = range(len(stack)) if only is None else only
    return np.stack([_with_identities(module, stack[layer + 1 :], ids) for layer in chosen])


def plain_embedding_readout(module: nn.Module, layers: str, ids: Sequence[int]) -> NDArray[np.float64]:
    """Log-probabilities read from the embeddings: every layer is the identity, float64 [d_vocab]."""
    return _with_identities(module, list(module.get_submodule(layers)), ids)


def plain_js(
    module: nn.Module,
    layers: str,
    ids: Sequence[int],
    *,
    keep: NDArray[np.bool_],
    branches: dict[str, tuple[Branch, ...]] | None = None,
    site: str = "block_output",
    last_only: bool = False,
    fill: NDArray[np.float64] | None = None,
    only: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """JS divergence in bits between the model and the model with one site masked, float64 [draw, layer].

    Args:
        module: Token ids in, logits out.
        layers: Path of the layer list.
        ids: One prompt.
        keep: Which dimensions stay, [layer, draw, width].
        branches: Where the branches of a layer are; needed unless the site is "block_output".
        site: "block_output", "mixer_output" or "mlp_output".
        last_only: Mask the last position alone.
        fill: What masked dimensions become, [layer, width]; zero where it is not given.
        only: These layers alone; the others stay NaN.
    """
    stack = list(module.get_submodule(layers))
    clean = plain_log_probs(module, ids)
    result = np.full((keep.shape[1], len(stack)), np.nan)
    for layer in range(len(stack)) if only is None else only:
        block = stack[layer]
        for draw in range(keep.shape[1]):
            mask = torch.as_tensor(np.array(keep[layer, draw]))
            values = None if fill is None else torch.as_tensor(fill[layer])
            with masking(block, mask, site=site, branches=branches, last_only=last_only, fill=values):
                result[draw, layer] = js_bits(clean, plain_log_probs(module, ids))
    return result


def plain_skip_js(
    module: nn.Module, layers: str, ids: Sequence[int], *, last_only: bool = False
) -> NDArray[np.float64]:
    """JS divergence in bits when one layer at a time is bypassed, float64 [layer]."""

    def bypass(received: Tensor, output: Tensor) -> Tensor:
        return torch.cat([output[:, :-1], received[:, -1:]], dim=1) if last_only else received

    clean = plain_log_probs(module, ids)
    result = []
    for block in module.get_submodule(layers):
        with editing(block, bypass):
            result.append(js_bits(clean, plain_log_probs(module, ids)))
    return np.array(result)


def plain_site_means(
    module: nn.Module,
    layers: str,
    prompts: Sequence[Sequence[int]],
    *,
    branches: dict[str, tuple[Branch, ...]] | None = None,
    site: str = "block_output",
) -> NDArray[np.float64]:
    """Mean of a site over all positions of all prompts, float64 [layer, width]."""
    means = []
    for block in module.get_submodule(layers):
        seen: list[Tensor] = []
        with _watching(block, seen, site=site, branches=branches):
            for ids in prompts:
                plain_logits(module, ids)
        rows = torch.cat([values.reshape(-1, values.shape[-1]) for values in seen])
        means.append(rows.to(torch.float64).mean(0).cpu().numpy())
    return np.stack(means)


@contextmanager
def _watching(
    block: nn.Module, seen: list[Tensor], *, site: str, branches: dict[str, tuple[Branch, ...]] | None
) -> Iterator[None]:
    """One layer whose values at a site are noted; nothing is changed."""
    branch = Branch(module="") if site == "block_output" else branch_of(block, (branches or {})[site])

    def note(received: Tensor, output: Tensor) -> Tensor:
        seen.append(
            (output - received if branch.adds_residual else output).clone()
        )  # a copy: Falcon adds to it in place afterwards
        return output

    with editing(block.get_submodule(branch.module), note, argument=int(branch.adds_residual)):
        yield


def js_bits(log_p: NDArray[np.float64], log_q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence in bits, straight from its definition, in float64."""
    p, q = np.exp(log_p), np.exp(log_q)
    mixture = (p + q) / 2
    return 0.5 * _kl_bits(p, mixture) + 0.5 * _kl_bits(q, mixture)


def _kl_bits(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    support = p > 0
    return float((p[support] * (np.log2(p[support]) - np.log2(q[support]))).sum())


@contextmanager
def masking(
    block: nn.Module,
    keep: Tensor,
    *,
    site: str,
    branches: dict[str, tuple[Branch, ...]] | None = None,
    last_only: bool = False,
    fill: Tensor | None = None,
) -> Iterator[None]:
    """One layer with the masked dimensions of one site set to zero, or to `fill`."""

    def masked(values: Tensor) -> Tensor:
        factor = keep.to(dtype=values.dtype, device=values.device)
        other = torch.zeros_like(factor) if fill is None else fill.to(dtype=values.dtype, device=values.device)
        changed = values * factor + other * (1 - factor)
        if last_only:  # one prompt at a time: also right where positions are rows of a matrix
            changed[..., :-1, :] = values[..., :-1, :]
        return changed

    if site == "block_output":
        with editing(block, lambda _, output: masked(output)):
            yield
        return
    branch = branch_of(block, (branches or {})[site])

    def edit(received: Tensor, output: Tensor) -> Tensor:
        return received + masked(output - received) if branch.adds_residual else masked(output)

    with editing(block.get_submodule(branch.module), edit, argument=int(branch.adds_residual)):
        yield


def branch_of(block: nn.Module, alternatives: Sequence[Branch]) -> Branch:
    """The one of the alternatives that this layer has."""
    names = {name for name, _ in block.named_modules()}
    present = [branch for branch in alternatives if branch.module in names]
    assert len(present) == 1, f"{type(block).__name__} has {len(present)} of {[b.module for b in alternatives]}"
    return present[0]


@contextmanager
def editing(module: nn.Module, edit: Edit, *, argument: int = 0) -> Iterator[None]:
    """A module whose (first) output is replaced by `edit(received, output)`.

    `received` is the positional argument of that number; where the stream comes as a keyword, "hidden_states".
    """

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> object:
        received = args[argument] if len(args) > argument else kwargs.get("hidden_states")
        if isinstance(output, tuple):
            return (edit(received, output[0]), *output[1:])
        return edit(received, output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _with_identities(module: nn.Module, blocks: Sequence[nn.Module], ids: Sequence[int]) -> NDArray[np.float64]:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(editing(block, lambda received, _: received))
        return plain_log_probs(module, ids)
