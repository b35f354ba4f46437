"""The numbers that LayerTracer must reproduce, obtained the slow and obvious way.

One prompt at a time, one hooked forward per layer and draw, plain `register_forward_hook`, arithmetic on
distributions in float64. Where a branch adds to the stream is what people read in the source
(`tests/architectures/read_by_hand`). Nothing here imports LayerTracer, and nothing is shared with how it finds or
runs anything.

The `plain_…` functions ask about a module that takes token ids. `log_probs_without`, `js_when_masked` and
`js_when_edited` ask the same about anything else that can say its log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Numbers = NDArray[np.float64]
Masks = NDArray[np.bool_]
Edit = Callable[[Any, Tensor], Tensor]
"""From what a module received as its stream and what it made of it to what it shall return."""
Says = Callable[[], Numbers]
"""A model on one prompt: its log-probabilities of the next token, [d_vocab]."""
Branches = Mapping[str, str | None]
"""By site, the modules of a layer whose outputs are what a branch adds; written as in `ReadByHand`."""

# ---------------------------------------------------------------- distributions


def log_softmax(logits: Tensor) -> Numbers:
    """Log-probabilities of logits [d_vocab], in float64."""
    values = logits.detach().to(torch.float64).cpu().numpy()
    shifted = values - values.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def js_bits(log_p: Numbers, log_q: Numbers) -> float:
    """Jensen-Shannon divergence in bits, straight from its definition, in float64."""
    p, q = np.exp(log_p), np.exp(log_q)
    mixture = (p + q) / 2
    return 0.5 * _kl_bits(p, mixture) + 0.5 * _kl_bits(q, mixture)


def _kl_bits(p: Numbers, q: Numbers) -> float:
    support = p > 0
    return float((p[support] * (np.log2(p[support]) - np.log2(q[support]))).sum())


# ---------------------------------------------------------------- modules that take token ids


def plain_logits(module: nn.Module, ids: Sequence[int]) -> Numbers:
    """The model's own logits at the last position of one prompt, float64 [d_vocab]."""
    return _last_logits(module, ids).to(torch.float64).cpu().numpy()


def plain_log_probs(module: nn.Module, ids: Sequence[int]) -> Numbers:
    """The model's own log-probabilities of the next token, float64 [d_vocab]."""
    return log_softmax(_last_logits(module, ids))


@torch.no_grad()
def _last_logits(module: nn.Module, ids: Sequence[int]) -> Tensor:
    parameter = next(module.parameters(), None)
    tokens = torch.tensor([list(ids)], device=None if parameter is None else parameter.device)
    # Only models of Transformers have this; they get no cache, which some would fill.
    output = module(tokens, use_cache=False) if hasattr(module, "generate") else module(tokens)
    if isinstance(output, Mapping):
        output = output["logits"]
    elif isinstance(output, tuple):
        output = output[0]
    logits: Tensor = output[0, -1]
    return logits


def plain_readouts(module: nn.Module, layers: str, ids: Sequence[int], *, only: Sequence[int] | None = None) -> Numbers:
    """Log-probabilities read after every layer: all later layers are the identity, float64 [layer, d_vocab].

    With `only`, of these layers alone.
    """
    stack = list(module.get_submodule(layers))
    chosen = range(len(stack)) if only is None else only
    return np.stack([log_probs_without(stack[layer + 1 :], lambda: plain_log_probs(module, ids)) for layer in chosen])


def plain_embedding_readout(module: nn.Module, layers: str, ids: Sequence[int]) -> Numbers:
    """Log-probabilities read from the embeddings: every layer is the identity, float64 [d_vocab]."""
    return log_probs_without(list(module.get_submodule(layers)), lambda: plain_log_probs(module, ids))


def plain_js(
    module: nn.Module,
    layers: str,
    ids: Sequence[int],
    *,
    keep: Masks,
    branches: Branches | None = None,
    site: str = "block_output",
    last_only: bool = False,
    fill: Sequence[Any] | Numbers | None = None,
    only: Sequence[int] | None = None,
) -> Numbers:
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
    return js_when_masked(
        lambda: plain_log_probs(module, ids),
        list(module.get_submodule(layers)),
        keep,
        branch=_branch_at(site, branches),
        last_of=len(ids) if last_only else None,
        fill=fill,
        only=only,
    )


def plain_skip_js(module: nn.Module, layers: str, ids: Sequence[int], *, last_only: bool = False) -> Numbers:
    """JS divergence in bits when one layer at a time is bypassed, float64 [layer]."""

    def bypass(received: Tensor, output: Tensor) -> Tensor:
        return last_replaced(output, received, len(ids)) if last_only else received

    clean = plain_log_probs(module, ids)
    stack = module.get_submodule(layers)
    return np.array(
        [js_when_edited(lambda: plain_log_probs(module, ids), block, bypass, clean=clean) for block in stack]
    )


def plain_site_means(
    module: nn.Module,
    layers: str,
    prompts: Sequence[Sequence[int]],
    *,
    branches: Branches | None = None,
    site: str = "block_output",
) -> Numbers:
    """Mean of a site over all positions of all prompts, float64 [layer, width]."""
    means = []
    for block in module.get_submodule(layers):
        seen: list[Tensor] = []

        def note(_: object, output: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(output.clone())  # Falcon adds to it in place afterwards
            return output

        (target,) = branch_modules(block, _branch_at(site, branches))
        with editing(target, note):
            for ids in prompts:
                plain_logits(module, ids)
        rows = torch.cat([values.reshape(-1, values.shape[-1]) for values in seen])
        means.append(rows.to(torch.float64).mean(0).cpu().numpy())
    return np.stack(means)


def _branch_at(site: str, branches: Branches | None) -> str | None:
    return None if site == "block_output" else (branches or {})[site]


# ---------------------------------------------------------------- whatever says its log-probabilities


def log_probs_without(layers: Sequence[nn.Module], says: Says) -> Numbers:
    """What is said while some layers are the identity, [d_vocab]."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(editing(layer, lambda received, _: received))
        return says()


def js_when_masked(
    says: Says,
    layers: Sequence[nn.Module],
    keep: Masks,
    *,
    branch: str | None = None,
    last_of: int | None = None,
    fill: Sequence[Any] | Numbers | None = None,
    only: Sequence[int] | None = None,
) -> Numbers:
    """JS divergence in bits when one layer at a time is masked, [draw, layer].

    Args:
        says: The model on one prompt.
        layers: Its layers, in order.
        keep: Which dimensions stay, [layer, draw, width].
        branch: What is masked inside a layer, as in `ReadByHand`; the layer's output where it is not given.
        last_of: Mask the last of so many positions alone.
        fill: What masked dimensions become, [layer, width]; zero where it is not given.
        only: These layers alone; the others stay NaN.
    """
    clean = says()
    result = np.full((keep.shape[1], len(layers)), np.nan)
    for layer in range(len(layers)) if only is None else only:
        values = None if fill is None else torch.as_tensor(fill[layer])
        for draw in range(keep.shape[1]):
            mask = torch.as_tensor(np.array(keep[layer, draw]))
            with masking(layers[layer], mask, branch=branch, last_of=last_of, fill=values):
                result[draw, layer] = js_bits(clean, says())
    return result


def js_when_edited(says: Says, module: nn.Module, edit: Edit, *, clean: Numbers | None = None) -> float:
    """JS divergence in bits when one module's output is edited; `clean` is what the model says by itself."""
    own = says() if clean is None else clean
    with editing(module, edit):
        return js_bits(own, says())


# ---------------------------------------------------------------- hooks


@contextmanager
def masking(
    block: nn.Module,
    keep: Tensor,
    *,
    branch: str | None = None,
    last_of: int | None = None,
    fill: Tensor | None = None,
) -> Iterator[None]:
    """One layer with the masked dimensions of its output, or of a branch, set to zero, or to `fill`."""

    def masked(_: object, values: Tensor) -> Tensor:
        other = torch.zeros((), dtype=values.dtype) if fill is None else fill
        changed = torch.where(keep.bool().to(values.device), values, other.to(values.device, values.dtype))
        return changed if last_of is None else last_replaced(values, changed, last_of)

    modules = branch_modules(block, branch)
    assert modules, f"{type(block).__name__} has no {branch}"
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(editing(module, masked))
        yield


def branch_modules(block: nn.Module, branch: str | None) -> list[nn.Module]:
    """The modules that a branch names: of `a|b` the last that the layer has, of `a+b` all; without one, the layer."""
    if branch is None:
        return [block]
    present = dict(block.named_modules())
    found = [present[name] for name in branch.replace("|", "+").split("+") if name in present]
    return found[-1:] if "|" in branch else found


@contextmanager
def editing(module: nn.Module, edit: Edit) -> Iterator[None]:
    """A module whose (first) output becomes `edit(received, output)`; what else it returns stays.

    `received` is a copy of the first positional argument, or of the keyword `hidden_states`: that is the stream in
    every layer of every family, and modules may add to it in place.
    """
    received: list[Any] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = args[0] if args else kwargs.get("hidden_states")
        received[:] = [stream.clone() if isinstance(stream, Tensor) else stream]

    def after(_: nn.Module, _args: object, output: Any) -> Any:
        if isinstance(output, Tensor):
            return edit(received[0], output)
        assert type(output) in (tuple, list), type(output)
        return type(output)([edit(received[0], output[0]), *output[1:]])

    handles = [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_replaced(stream: Tensor, other: Tensor, length: int) -> Tensor:
    """A stream whose last position is another's; the positions are the only axis of that length beside the width."""
    (axis,) = [axis for axis, size in enumerate(stream.shape[:-1]) if size == length]
    replaced = stream.clone()
    replaced.select(axis, -1).copy_(other.select(axis, -1))
    return replaced
