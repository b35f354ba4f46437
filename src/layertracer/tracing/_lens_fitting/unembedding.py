"""What tells a model's tail (final norm, unembedding, softcap) from another model's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import UsageError
from layertracer.models import digest_values, fetch_weight, hooking, keeping_loaded, named_weights
from layertracer.tracing._model import TracedModel
from layertracer.tracing._passes.tail import Tail

_N_ROWS, _N_TOKENS = 4, 32
_SEED = 9
_ROUNDINGS, _LEAST = 16, 1e-3
"""How far the same tail may be off in another type: in roundings of the coarser one, and at least."""


def describe_unembedding(model: TracedModel) -> dict[str, Any]:
    """A fingerprint of a model's tail: of its weights, and of what it makes of a few fixed rows.

    Laws: equal for equal tails, on every device and whatever the layers below hold; another value in any weight of the
    final norm or the unembedding gives another digest.

    Returns:
        "digest" of its weights as float32 numbers, the type of the model's parameters, and "probe", logits of fixed
        rows by which the same tail is known in another type, whose weights are rounded. JSON values.
    """
    return {"digest": _digest(model), "dtype": str(model.dtype), "probe": _probe(model)}


def refuse_other_unembedding(model: TracedModel, stored: Mapping[str, Any], *, name: str) -> None:
    """Raise where a lens was fitted to another tail than a model's.

    Args:
        model: The model.
        stored: What `describe_unembedding` gave when it was fitted.
        name: What the lens is called.

    Raises:
        UsageError: If the weights differ, or, in another type, what it makes of the same rows.
    """
    own = describe_unembedding(model)
    if own["digest"] == stored.get("digest"):
        return
    hint = f"Load the model that it was fitted on, or fit one on this: layertracer lens fit {model.name}."
    if own["dtype"] == stored.get("dtype"):
        raise UsageError(
            f"The lens {name!r} was fitted to another unembedding than that of {model.name!r}: the weights behind the "
            f"last layer differ, so that what it translates into would be read wrongly. {hint}"
        )
    theirs, ours = (torch.tensor(one.get("probe", []), dtype=torch.float64) for one in (stored, own))
    eps = max(_eps(own["dtype"]), _eps(stored.get("dtype")))
    if theirs.shape != ours.shape or float((theirs - ours).norm()) > max(_LEAST, _ROUNDINGS * eps) * float(ours.norm()):
        raise UsageError(
            f"The lens {name!r} was fitted to another unembedding than that of {model.name!r}: what the two make of "
            f"the same rows differs by more than the types {stored.get('dtype')} and {own['dtype']} explain. {hint}"
        )


def _eps(dtype: object) -> float:
    found = getattr(torch, str(dtype).removeprefix("torch."), None)
    return torch.finfo(found).eps if isinstance(found, torch.dtype) and found.is_floating_point else 1e-2


def _digest(model: TracedModel) -> str:
    """SHA-256 over the weights of the tail, as float32 where they are floating-point numbers."""
    whole = hashlib.sha256()
    for name, weight in _weights_of_tail(model):
        values = weight.float() if weight.is_floating_point() else weight
        whole.update(f"{name}\t{tuple(weight.shape)}\t{digest_values(values) or 'unread'}\n".encode())
    return whole.hexdigest()


def _weights_of_tail(model: TracedModel) -> Iterator[tuple[str, Tensor]]:
    """Weights of what runs after the last layer; where no matrix is among them, those of all outer parts."""
    module = model.network.call.module
    outer, late = set(model.network.outer_modules), _run_after_layers(model)
    chosen = {name: one for name, one in named_weights(module).items() if _owner(module, name) in outer}
    of_tail = {name: one for name, one in chosen.items() if _owner(module, name) in late}
    if not any(one.ndim > 1 for one in of_tail.values()):
        of_tail = chosen  # an unembedding that no module runs: the embeddings, transposed
    for name, weight in sorted(of_tail.items()):
        fetched = fetch_weight(module, name) if weight.is_meta else weight
        yield name, weight if fetched is None else fetched.to(weight.dtype)


def _owner(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name.rpartition(".")[0])


def _run_after_layers(model: TracedModel) -> set[nn.Module]:
    """Outer modules that are called after the last layer."""
    last, called = model.anatomy.layers[-1].module, list[nn.Module]()

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del args, kwargs
        if module is last:
            called.clear()
        called.append(module)

    with hooking([*model.network.outer_modules, last], before=note):
        Tail(model.network).zero_row()
    return set(called) - {last}


def _probe(model: TracedModel) -> list[list[float]]:
    """Logits of fixed rows at evenly spaced tokens, less their mean over all tokens."""
    network = model.network
    generator = torch.Generator().manual_seed(_SEED)
    rows = torch.randn(_N_ROWS, model.anatomy.d_model, generator=generator).to(network.device, network.dtype)
    with keeping_loaded(network.outer_modules):
        logits = Tail(network)(rows).double().cpu().clamp(min=-1e4, max=1e4)
    logits = logits - logits.mean(dim=-1, keepdim=True)
    tokens = torch.linspace(0, model.anatomy.d_vocab - 1, _N_TOKENS).long()
    return [[round(float(value), 6) for value in row] for row in logits[:, tokens]]
