"""Network: a module together with what was found in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError, LayerTracerError, printable_cause
from layertracer._types import find_origin
from layertracer.models._anatomy.anatomy import Anatomy, Layer, find_anatomy
from layertracer.models._calling.call import ModelCall, at_every_position, find_call
from layertracer.models._calling.decoder_start import DecoderStart, find_decoder_start
from layertracer.models._calling.heads import refuse_labels, refuse_other_class
from layertracer.models._calling.out_of_memory import is_out_of_memory
from layertracer.models._calling.probes import probe_ids, probe_source, safe_tokens, text_config
from layertracer.models._calling.recurrent import unroll_recurrent
from layertracer.models._calling.wrappers import eagerly, unwrap
from layertracer.models._weights.offload import execution_devices, refuse_absent_weights

_FLEX = "flex_attention"
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A language model taken as it is, with its anatomy.

    Attributes:
        module: The model, in evaluation mode.
        call: How it is run.
        anatomy: Its decoder layers.
        name: As users call it.
        tokenizer: Its tokenizer, None where it has none.
        revision: Commit or hash of the weights, where known.
        source: Where it came from: "embedded", "hub", "folder", "gguf" or "module".
        device: Where token ids must lie.
        dtype: Type of its parameters.
        compiled: The layers' forwards, compiled, by index; empty where they are not.
    """

    module: nn.Module = field(repr=False)
    call: ModelCall = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    name: str
    tokenizer: Any = field(repr=False)
    revision: str | None
    source: str
    device: torch.device
    dtype: torch.dtype
    compiled: Mapping[int, Callable[..., Any]] = field(default_factory=dict, repr=False)

    def forward_of(self, layer: Layer) -> Callable[..., Any]:
        """What runs a layer: its own forward, compiled or as it is written."""
        return self.compiled.get(layer.index, layer.module.forward)

    @property
    def outer_modules(self) -> tuple[nn.Module, ...]:
        """All parts of the model that are not within a layer: embeddings, the last norm, the head."""
        inner = {part for layer in self.anatomy.layers for part in layer.module.modules()}
        return tuple(part for part in self.call.module.modules() if part not in inner)

    def reading(self, source: Tensor | None) -> Network:
        """The network whose encoder reads `source` [batch, source position]; the same one where there is no encoder."""
        return replace(self, call=self.call.reading(source))

    def row(self, index: int) -> Network:
        """The network whose encoder reads what row `index` of the present batch reads."""
        source = self.call.source
        return self if source is None else self.reading(source[index].unsqueeze(0))

    def probe(self, *, batch: int, length: int, seed: int = 0) -> tuple[Network, Tensor]:
        """Random token ids [batch, length], and the network whose encoder reads others beside them."""
        call = probe_source(self.call, batch=batch, length=length, device=self.device, seed=seed)
        ids = probe_ids(self.anatomy.plain_tokens, batch=batch, length=length, device=self.device, seed=seed)
        return replace(self, call=call), ids

    @property
    def decoder_start(self) -> DecoderStart:
        """What the decoder of an encoder-decoder model begins with, see `find_decoder_start`."""
        return find_decoder_start(self.module, self.tokenizer)

    @property
    def max_length(self) -> int | None:
        """Longest prompt that the model's configuration allows, in tokens; None where it names none."""
        config = text_config(self.module)
        for name in _CONTEXT_NAMES:
            length = getattr(config, name, None)
            if isinstance(length, int) and length > 0:
                return min(
                    [length, *(table.num_embeddings - _padding_of(table) - 1 for table in self._position_tables)]
                )
        return None

    @property
    def uncounted_tokens(self) -> frozenset[int]:
        """Tokens that the model itself takes for padding: they have no position, and none after them counts them."""
        return frozenset(map(_padding_of, self._position_tables))

    @property
    def _position_tables(self) -> list[nn.Embedding]:
        """Tables of positions that are counted from behind the padding token's, as in RoBERTa."""
        return [
            part
            for path, part in self.module.named_modules()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None and "position" in path.rpartition(".")[2]
        ]


def _padding_of(table: nn.Embedding) -> int:
    assert table.padding_idx is not None  # as its tables are chosen
    return table.padding_idx


def _closed_to_modes(module: nn.Module) -> AnatomyError:
    """The error for a model that runs an operator which takes code: no mode of PyTorch looks into it."""
    return AnatomyError(
        f"{type(module).__name__} runs its attention by PyTorch's {_FLEX}, into which LayerTracer cannot look. Choose "
        "another implementation, which gives the same numbers: from_pretrained(..., attn_implementation='sdpa') or "
        "model.set_attn_implementation('sdpa'); in a module of your own, "
        "torch.nn.functional.scaled_dot_product_attention."
    )


def make_network(
    module: nn.Module,
    *,
    name: str | None,
    tokenizer: Any = None,
    revision: str | None = None,
    source: str = "module",
    layers: str | None = None,
) -> Network:
    """A module run, understood and put into evaluation mode; without a name, it is called by its class.

    Raises:
        AnatomyError: If no decoder stack is found in it, or more than one, or if it predicts something else than the
            next token.
    """
    module = unwrap(module).eval()
    refuse_other_class(module)
    if any(getattr(getattr(part, "config", None), "_attn_implementation", None) == _FLEX for part in module.modules()):
        raise _closed_to_modes(module)
    call = find_call(unroll_recurrent(module))
    refuse_absent_weights(module)
    first, device = next(module.parameters(), None), execution_devices(module)[0]
    call = at_every_position(call, probe_ids(safe_tokens(module), batch=2, length=5, device=device))
    dtype = first.dtype if first is not None else torch.float32
    try:
        with eagerly(call.is_compiled):  # parts are run on their own, too
            anatomy = find_anatomy(call, layers=layers, device=device)
    except Exception as error:
        if isinstance(error, LayerTracerError) or is_out_of_memory(error):
            raise
        if "HigherOrderOperator" in str(error):
            raise _closed_to_modes(module) from printable_cause(error)
        raise AnatomyError(_why_not_understood(module, error)) from printable_cause(error)
    refuse_labels(module, anatomy.d_vocab)
    return Network(
        module=module,
        call=call,
        anatomy=anatomy,
        name=name or type(module).__name__,
        tokenizer=tokenizer,
        revision=revision,
        source=source,
        device=device,
        dtype=dtype,
    )


def _why_not_understood(module: nn.Module, error: Exception) -> str:
    """What stood in the way of understanding a module, and whose fault that is."""
    what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    origin = find_origin(error)
    if origin.is_ours:
        return (
            f"LayerTracer failed to understand {type(module).__name__} by running its parts: {what} ({origin.where}). "
            "This is a fault of LayerTracer: please report it with the model. Where several stacks could be meant, "
            "wrap_model(module, layers='path.to.stack') chooses one."
        )
    return (
        f"{type(module).__name__} could not be understood by running its parts: {what}. Layers must take the stream "
        "and return it; where several stacks could be meant, wrap_model(module, layers='path.to.stack') chooses one."
    )
