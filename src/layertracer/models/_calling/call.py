"""Calls of a language model: token ids in, logits out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError
from layertracer.models._calling.heads import refuse_other_outputs
from layertracer.models._calling.out_of_memory import is_out_of_memory
from layertracer.models._calling.pytree import flatten
from layertracer.models._calling.wrappers import eagerly, forward_parameters, is_compiled
from layertracer.models._weights.gradients import without_gradients

_QUIET_OPTIONS: Mapping[str, Any] = {
    "use_cache": False,  # a cache is state between calls; it is used only where it is the point
    "output_hidden_states": False,
    "output_attentions": False,
    "output_router_logits": False,  # a term of the loss is made of them, over the rows that the batch began with
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """The way to run a module's own `forward` on token ids.

    Attributes:
        module: The module.
        ids_name: Keyword of the token ids that are traced; None where they go first, by position.
        options: Keywords that switch off what a single forward does not need, as far as `forward` knows them.
        source_name: Keyword of the encoder's token ids; None in a model without an encoder.
        source: What the encoder reads, [batch, source position] or a single row for all; see `reading`.
        encoded: What the encoder made of it, where that is known already.
        targets_name: Keyword of the targets, in a model that without them gives the last position's logits alone.
        is_compiled: Whether parts of it are compiled; they are run as they are written.
    """

    module: nn.Module
    ids_name: str | None
    options: Mapping[str, Any]
    source_name: str | None = None
    source: Tensor | None = None
    encoded: Any = None
    targets_name: str | None = None
    is_compiled: bool = False

    def __call__(self, ids: Tensor) -> Any:
        """Whatever the module returns for `ids` [batch, position]."""
        with without_gradients(), eagerly(self.is_compiled):
            if self.ids_name is None:
                return self.module(ids, **self._targets(ids), **self.options)
            return self.module(
                **{self.ids_name: ids}, **self._source_arguments(len(ids)), **self._targets(ids), **self.options
            )

    def logits(self, ids: Tensor) -> Tensor:
        """Logits [batch, position, d_vocab] for `ids` [batch, position], on their device."""
        return find_logits(self(ids), ids).to(ids.device)

    def last_logits(self, ids: Tensor, n_last: int) -> Tensor:
        """Logits [batch, n_last, d_vocab] at the last positions, and at no others where the module can be told so."""
        if _FEW_LOGITS not in forward_parameters(self.module):
            return self.logits(ids)[:, -n_last:]
        output = replace(self, options={**self.options, _FEW_LOGITS: n_last})(ids)
        return find_logits(output, ids[:, -n_last:]).to(ids.device)

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder reads token ids of its own."""
        return self.source_name is not None

    def reading(self, source: Tensor | None) -> ModelCall:
        """The call whose encoder reads `source` [batch, source position]; the same call in a model without one."""
        return self if source is None or not self.has_encoder else replace(self, source=source, encoded=None)

    def reading_once(self, source: Tensor) -> ModelCall:
        """The call whose encoder has read `source` [1, source position] once, for however many rows."""
        if not self.has_encoder:
            return self
        knows_outputs = "encoder_outputs" in forward_parameters(self.module)
        if not knows_outputs or not hasattr(self.module, "get_encoder"):
            return replace(self, source=source, encoded=None)
        get_encoder: Any = self.module.get_encoder
        with without_gradients():
            return replace(self, source=source, encoded=get_encoder()(**{_SOURCE: source}))

    def _targets(self, ids: Tensor) -> dict[str, Tensor]:
        """Any targets: only that there are some matters. A single position is the last one anyway."""
        return {} if self.targets_name is None or ids.shape[1] == 1 else {self.targets_name: ids}

    def _source_arguments(self, n_rows: int) -> dict[str, Any]:
        if self.source_name is None:
            return {}
        assert self.source is not None  # `reading` comes first
        if self.encoded is not None:
            states = self.encoded.last_hidden_state.expand(n_rows, -1, -1)
            return {"encoder_outputs": type(self.encoded)(last_hidden_state=states)}
        rows = self.source.expand(n_rows, -1) if len(self.source) == 1 else self.source
        return {self.source_name: rows}


_SOURCE, _TRACED, _TARGETS, _FEW_LOGITS = "input_ids", "decoder_input_ids", "targets", "logits_to_keep"


def find_call(module: nn.Module) -> ModelCall:
    """The calling convention of `module`, from the signature of its `forward`."""
    parameters = forward_parameters(module)
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    known = {name: value for name, value in _QUIET_OPTIONS.items() if name in parameters}
    if takes_any and hasattr(module, "config") and _SOURCE in parameters:
        # Hugging Face forwards hand unknown keywords down to where they are understood.
        known["use_cache"] = False
        known |= {name: False for name in _QUIET_OPTIONS if getattr(module.config, name, False) is True}
    has_encoder = _SOURCE in parameters and _TRACED in parameters
    own_name = _SOURCE if _SOURCE in parameters else None
    return ModelCall(
        module=module,
        ids_name=_TRACED if has_encoder else own_name,
        options=known,
        source_name=_SOURCE if has_encoder else None,
        is_compiled=is_compiled(module),
    )


def at_every_position(call: ModelCall, ids: Tensor) -> ModelCall:
    """The call that gives logits at every position, where a model skips all but the last unless it is told targets.

    Args:
        call: The call as it was found.
        ids: Token ids [batch, position] of a probe.
    """
    if _TARGETS not in forward_parameters(call.module):
        return call
    told = replace(call, targets_name=_TARGETS)
    try:
        alone, everywhere = _last_logits(call(ids), ids), find_logits(told(ids), ids)
    except (AnatomyError, RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return call  # whatever does not fit is said where the call is first needed
    is_same = alone is not None and torch.allclose(alone, everywhere[:, -1:], rtol=1e-3, atol=1e-3)
    return told if is_same else call


def _last_logits(output: Any, ids: Tensor) -> Tensor | None:
    """What may be the logits of the last position alone, [batch, 1, d_vocab]."""
    shape = (len(ids), 1)
    leaves = [leaf for _, leaf in flatten(output).tensors() if leaf.ndim == 3 and leaf.shape[:2] == shape]
    return leaves[0] if len(leaves) == 1 and ids.shape[1] > 1 and torch.is_floating_point(leaves[0]) else None


def find_logits(output: Any, ids: Tensor) -> Tensor:
    """The logits inside a model's output.

    Args:
        output: A tensor, or an object, tuple or dictionary that holds one.
        ids: The token ids [batch, position] that were fed.

    Returns:
        Logits [batch, position, d_vocab].

    Raises:
        AnatomyError: If nothing in the output has that shape, or it is of another kind of model.
    """
    refuse_other_outputs(output, ids)
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    candidates = [named] if isinstance(named, Tensor) else [leaf for _, leaf in flatten(output).tensors()]
    fitting = [
        leaf for leaf in candidates if leaf.ndim == 3 and leaf.shape[:2] == ids.shape and torch.is_floating_point(leaf)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise AnatomyError(
            f"The model's output holds {len(fitting)} tensors [batch, position, ...] of shapes "
            f"{[list(leaf.shape) for leaf in fitting]}, and none is called logits. Return the logits alone, or in a "
            "dictionary under 'logits'."
        )
    shapes = [list(leaf.shape) for leaf in candidates]
    if _last_logits(output, ids) is not None:
        raise AnatomyError(
            f"The model gives logits at the last position alone: shape {shapes[0]} for token ids "
            f"[{ids.shape[0]}, {ids.shape[1]}]. LayerTracer needs them at every position: "
            "let forward return them all, or take a keyword `targets` with which it does."
        )
    raise AnatomyError(
        f"The model's output holds no logits: expected a tensor [batch, position, d_vocab] = [{ids.shape[0]}, "
        f"{ids.shape[1]}, ...], got shapes {shapes}. LayerTracer reads language models (token ids in, next-token "
        "logits out at every position); load the checkpoint with its language-model head."
    )
