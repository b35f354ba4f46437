"""Anatomy of a model: its decoder layers with their wiring and kinds, found by execution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError, printable_cause
from layertracer._types import LayerRecord, find_origin
from layertracer.models._anatomy.additions import Additions, Role, find_additions
from layertracer.models._anatomy.attention_form import ObservedPart
from layertracer.models._anatomy.kinds import mixer_kind, mlp_kind
from layertracer.models._anatomy.mixer_and_mlp import Part, find_parts, measure_layer, settle_by_additions
from layertracer.models._anatomy.stack import Stack, find_stack
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._anatomy.wiring import PROBE_BATCHES, PROBE_LENGTHS, Wiring, are_called_alike, wire_layers
from layertracer.models._calling.call import ModelCall, find_logits
from layertracer.models._calling.heads import refuse_probabilities
from layertracer.models._calling.hooks import CallRecord, call_inside, observe_calls
from layertracer.models._calling.out_of_memory import is_out_of_memory
from layertracer.models._calling.probes import (
    known_tokens,
    plain_token_ids,
    probe_ids,
    probe_source,
    safe_tokens,
    text_config,
)
from layertracer.models._calling.pytree import Leaves
from layertracer.models._weights.gradients import without_gradients
from layertracer.models._weights.offload import keeping_loaded
from layertracer.models._weights.shapes import count_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer.

    Attributes:
        index: Position in the stack, from 0.
        path: Name of the module inside the model, e.g. "model.layers.3".
        mixer: Kind of the part that moves information between positions, e.g. "attention", "mamba", "none".
        mlp: Kind of the other part: "dense", "experts" or "none".
        module: The layer itself.
        parts: Its mixer and its MLP.
        additions: What its branches add to the stream.
        wiring: How it is called.
        output: What it returned in a probe, without the stream.
    """

    index: int
    path: str
    mixer: str
    mlp: str
    module: nn.Module = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)
    additions: Additions = field(repr=False)
    wiring: Wiring = field(repr=False)
    output: Leaves = field(repr=False)

    def output_like(self, stream: Tensor) -> Any:
        """What the layer would return, with `stream` as its stream."""
        return self.output.replaced(self.wiring.stream_out, stream)

    @property
    def roles(self) -> frozenset[Role]:
        """Whether it has a mixer and an MLP, as its parts say or what is added to its stream."""
        kinds: dict[Role, str] = {"mixer": self.mixer, "mlp": self.mlp}
        named = {role for role, kind in kinds.items() if kind != "none"}
        return frozenset(named | {addition.role for addition in self.additions.found})

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the layer."""
        return count_parameters(self.module)

    def to_record(self) -> LayerRecord:
        """The layer described without its module."""
        return LayerRecord(
            index=self.index, path=self.path, mixer=self.mixer, mlp=self.mlp, n_parameters=self.n_parameters
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What was found in a model by running it.

    Attributes:
        layers: The decoder layers.
        d_model: Width of the last axis of a layer's output.
        d_vocab: Number of logits at a position.
        n_input_tokens: Number of token ids that the model can read.
        n_source_tokens: Number of token ids that its encoder can read; None in a model without an encoder.
        plain_tokens: Token ids without a special meaning, for probes.
    """

    layers: tuple[Layer, ...]
    d_model: int
    d_vocab: int
    n_input_tokens: int
    n_source_tokens: int | None
    plain_tokens: Tensor = field(repr=False)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)


@without_gradients()
def find_anatomy(call: ModelCall, *, layers: str | None = None, device: torch.device) -> Anatomy:
    """The decoder layers of a model, their wiring, and the kinds of their parts.

    Args:
        call: The model and how it is called.
        layers: Name of the container of the layers, where several could be meant.
        device: Where the token ids must lie.

    Raises:
        AnatomyError: If no stack is found, or more than one, or its layers cannot be read.
    """
    batch, length = PROBE_BATCHES[0], PROBE_LENGTHS[0]
    first_call = probe_source(call, batch=batch, length=length, device=device)
    # The size of the vocabulary is not known yet; it is no smaller than the smallest table.
    first_ids = probe_ids(safe_tokens(call.module), batch=batch, length=length, device=device)
    smaller, d_vocab = _first_run(first_call, first_ids)
    n_input_tokens = known_tokens(smaller, first_ids) or d_vocab
    allowed = plain_token_ids(call.module, min(d_vocab, n_input_tokens))
    stack = find_stack(
        call.module,
        smaller,
        n_positions=length,
        n_source_positions=None if first_call.source is None else first_call.source.shape[1],
        path=layers,
    )
    batch, length = PROBE_BATCHES[1], PROBE_LENGTHS[1]
    second_call = probe_source(call, batch=batch, length=length, device=device)
    second_ids = probe_ids(allowed, batch=batch, length=length, device=device)
    larger = observe_calls(call.module.modules(), lambda: second_call(second_ids))
    layer_calls = _layer_calls(stack, larger)
    wirings = _wire(stack, _layer_calls(stack, smaller), layer_calls, call=second_call, ids=second_ids)
    probes = _Probes(smaller=smaller, larger=larger)
    kinds = list(map(probes.kinds_of, _layer_calls(stack, smaller), layer_calls, wirings))
    return Anatomy(
        layers=_describe_layers(stack, wirings, kinds, layer_calls, config=text_config(call.module)),
        d_model=layer_calls[0].inputs.values[wirings[0].stream_in].shape[-1],
        d_vocab=d_vocab,
        n_input_tokens=n_input_tokens,
        n_source_tokens=None if first_call.source is None else known_tokens(smaller, first_call.source) or d_vocab,
        plain_tokens=allowed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """What gives a layer its kinds: its parts, and what mixes positions and what does not in it, as observed."""

    parts: tuple[Part, ...]
    mixers: tuple[tuple[Part, ObservedPart], ...]
    mlps: tuple[tuple[Part, ObservedPart], ...]
    additions: Additions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probes:
    """All calls of the two probes."""

    smaller: Sequence[CallRecord]
    larger: Sequence[CallRecord]

    def kinds_of(self, smaller: CallRecord, larger: CallRecord, wiring: Wiring) -> _Kinds:
        """The parts of one layer, which was called so in the two probes; offloaded weights are loaded once for it."""
        with keeping_loaded(larger.module.modules()):
            return self._kinds_of(smaller, larger, wiring)

    def _kinds_of(self, smaller: CallRecord, larger: CallRecord, wiring: Wiring) -> _Kinds:
        stream = larger.inputs.values[wiring.stream_in]
        shape = StreamShape.of(stream, wiring)
        additions = find_additions(larger, wiring)
        parts = settle_by_additions(find_parts(larger, self.larger, shape=shape), additions)
        mixers = tuple(part for part in parts if part.role == "mixer")
        if not mixers:
            whole = measure_layer(larger, shape=shape)
            mixers, parts = ((), parts) if whole is None else ((whole,), ())

        def seen(part: Part) -> tuple[Part, ObservedPart]:
            calls = (
                call_inside(smaller, self.smaller, part.module),
                call_inside(larger, self.larger, part.module),
            )
            return part, ObservedPart(smaller=calls[0], larger=calls[1], shape=shape)

        mlps = (part for part in parts if part.role == "mlp")
        return _Kinds(
            parts=parts,
            mixers=tuple(map(seen, mixers)),
            mlps=tuple(map(seen, mlps)),
            additions=additions,
        )


def _describe_layers(
    stack: Stack,
    wirings: Sequence[Wiring],
    kinds: Sequence[_Kinds],
    calls: Sequence[CallRecord],
    *,
    config: Any,
) -> tuple[Layer, ...]:
    n_layers = len(stack.layers)
    return tuple(
        Layer(
            index=index,
            path=path,
            mixer=mixer_kind(own.mixers, index=index, n_layers=n_layers, config=config),
            mlp=mlp_kind(own.mlps, adding=own.additions.served.get("mlp", ())),
            module=module,
            parts=own.parts,
            additions=own.additions,
            wiring=wiring,
            output=_without_stream(call, wiring),
        )
        for index, ((path, module), wiring, own, call) in enumerate(
            zip(stack.layers, wirings, kinds, calls, strict=True)
        )
    )


def _without_stream(call: CallRecord, wiring: Wiring) -> Leaves:
    """A layer's output with None in place of its stream, so that it can be kept."""
    assert call.outputs is not None  # the probe has ended
    values = list(call.outputs.values)
    values[wiring.stream_out] = None
    return Leaves(values, call.outputs.spec)


def _layer_calls(stack: Stack, calls: Sequence[CallRecord]) -> list[CallRecord]:
    wanted = {module for _, module in stack.layers}
    found = [call for call in calls if call.module in wanted]
    if [call.module for call in found] != [module for _, module in stack.layers]:
        raise AnatomyError(
            f"The layers of {stack.path!r} do not run once each and in the same order at every prompt length, so that "
            "their outputs cannot be compared. Such a model cannot be traced."
        )
    return found


def _wire(
    stack: Stack, shorter: Sequence[CallRecord], larger: Sequence[CallRecord], *, call: ModelCall, ids: Tensor
) -> tuple[Wiring, ...]:
    """The wiring of the layers; where the length decides what they are given, after a probe of fewer long prompts."""
    if are_called_alike(shorter, larger):
        return wire_layers(shorter, larger)
    n_rows = PROBE_BATCHES[0]
    fewer = call.reading(None if call.source is None else call.source[:n_rows])
    calls = observe_calls([module for _, module in stack.layers], lambda: fewer(ids[:n_rows]))
    return wire_layers(shorter, larger, smaller=_layer_calls(stack, calls))


def _first_run(call: ModelCall, ids: Tensor) -> tuple[list[CallRecord], int]:
    """All calls of the first run, and the number of logits; whatever it raises says that this is no language model."""
    output: list[Any] = []
    try:
        calls = observe_calls(call.module.modules(), lambda: output.append(call(ids)))
    except Exception as error:
        if is_out_of_memory(error) or find_origin(error).is_ours:
            raise
        raise AnatomyError(
            f"The module could not be run on token ids: {type(error).__name__}: {str(error).partition(chr(10))[0]}. "
            "LayerTracer reads language models: forward takes token ids [batch, position] first (or as input_ids), of "
            "any batch and length, and returns next-token logits. Wrap your module so that its forward does; a model "
            "that reads several codebooks at once cannot be traced."
        ) from printable_cause(error)
    logits = find_logits(output[0], ids)
    refuse_probabilities(logits)
    return calls, logits.shape[-1]
