"""Linear maps from a subject's representation to what leaves the last layer where its object is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer.models import Layer, Network, in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.tracing._attribution.gradient import why_no_gradients
from layertracer.tracing._attribution.not_measured import NotMeasured, telling_why_not
from layertracer.tracing._attribution.taped import Tape
from layertracer.tracing._batching.rows import gather_rows, to_rows_first
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._lenses.streams import StreamRows
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._passes.tail import Tail

_ROWS_AT_A_TIME = 32
"""Copies of a prompt in one backward pass, each for another dimension of what leaves the last layer."""
_LOGITS_AT_A_TIME = 2**22
"""16 MiB of float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubjectStates:
    """What stands at a prompt's subject and at its end.

    Attributes:
        subjects: What leaves each layer at the subject's last token, float32 [prompt, layer, width].
        objects: What leaves the last layer at the last position, float32 [prompt, width].
        top_ids: The model's own next token.
    """

    subjects: Float[np.ndarray, "prompt layer width"]
    objects: Float[np.ndarray, "prompt width"]
    top_ids: Int[np.ndarray, " prompt"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubjectMaps:
    """Linear maps from subjects to objects, one for each layer.

    Attributes:
        matrices: Mean Jacobians J over prompts, [layer, width, width].
        biases: Mean of o − J s over prompts, [layer, width].
    """

    matrices: Float[np.ndarray, "layer width width"]
    biases: Float[np.ndarray, "layer width"]


@without_gradients()
def read_subjects(model: TracedModel, prompts: Sequence[Sequence[int]], positions: Sequence[int]) -> SubjectStates:
    """What stands at subjects and at the ends of prompts.

    Args:
        model: The model.
        prompts: Token ids of each prompt.
        positions: Where the last token of its subject is.

    Raises:
        NotMeasured: If the stream is no vector a token.
    """
    network = model.network
    subjects, objects, top_ids = [], [], []
    with (
        in_evaluation_mode(network.call.module),
        keeping_loaded(network.outer_modules),
        explaining_failures(model.name, "while subjects were read"),
    ):
        for prompt, position in zip(prompts, positions, strict=True):
            ids = torch.tensor([list(prompt)], device=network.device)
            length, last = len(prompt), len(prompt) - 1
            at_subject = StreamRows(network=network, read=(position,), length=length)
            at_end = StreamRows(network=network, read=(last,), length=length)
            with observing(network, [at_subject, at_end]):
                top_ids.append(int(plain_logits(network, ids, read=[last])[0, 0].argmax()))
            rows = at_subject.stacked(dim=0)[1:, 0, 0]
            if rows.ndim != 2:
                raise NotMeasured(f"its stream holds {list(rows.shape[1:])} numbers for each token, not one vector")
            subjects.append(rows.float().cpu().numpy())
            objects.append(at_end.rows[network.anatomy.n_layers - 1][0, 0].float().cpu().numpy())
    return SubjectStates(subjects=np.stack(subjects), objects=np.stack(objects), top_ids=np.array(top_ids))


@without_gradients()
def map_subjects(
    model: TracedModel,
    prompts: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    layers: Sequence[int],
    states: SubjectStates,
) -> SubjectMaps:
    """Maps from what leaves layers at the subject to what leaves the last layer at the end, from Jacobians there.

    Args:
        model: The model.
        prompts: Token ids of each prompt.
        positions: Where the last token of its subject is.
        layers: From which layers.
        states: What stands there, see `read_subjects`.

    Raises:
        NotMeasured: If the model cannot be differentiated.
    """
    network, reason = model.network, why_no_gradients(model)
    if reason is not None:
        raise NotMeasured(reason)
    width = network.anatomy.d_model
    matrices = np.zeros((len(layers), width, width))
    biases = np.zeros((len(layers), width))
    with in_evaluation_mode(network.call.module), explaining_failures(model.name, "while Jacobians were taken"):
        for number, (prompt, position) in enumerate(zip(prompts, positions, strict=True)):
            own = _jacobians(network, prompt, position, layers)
            matrices += own / len(prompts)
            reached = np.einsum("lij,lj->li", own, states.subjects[number, list(layers)])
            biases += (states.objects[number] - reached) / len(prompts)
    return SubjectMaps(matrices=matrices, biases=biases)


def _jacobians(
    network: Network, prompt: Sequence[int], position: int, layers: Sequence[int]
) -> Float[np.ndarray, "layer width width"]:
    """Those of one prompt, several dimensions of the end at a time."""
    anatomy, length = network.anatomy, len(prompt)
    width = anatomy.d_model
    n_rows = min(_ROWS_AT_A_TIME, width)
    ids = torch.tensor([list(prompt)], device=network.device).expand(n_rows, -1)
    tape = Tape(network=network, branches=False)
    found = np.empty((len(layers), width, width))
    with telling_why_not("its code cannot be differentiated"), torch.enable_grad():
        with tape.running():
            network.call(ids)
        assert tape.left is not None  # its last layer ran
        ends = _at(tape.left, anatomy.layers[-1], length - 1, length)
        edges = [tape.terms[layer].edge for layer in layers]
        for start in range(0, width, n_rows):
            size = min(n_rows, width - start)
            chosen = torch.arange(size, device=ends.device)
            aim = ends[chosen, start + chosen].sum()
            is_last = start + n_rows >= width
            gradients = torch.autograd.grad(aim, edges, retain_graph=not is_last, allow_unused=True)
            for which, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
                if gradient is None:
                    raise NotMeasured(f"no gradient comes back to layer {layer}: the model's own code cuts them off")
                rows = _at(gradient, anatomy.layers[layer], position, length)[:size]
                found[which, start : start + size] = rows.detach().double().cpu().numpy()
    return found


def _at(stream: Tensor, layer: Layer, position: int, length: int) -> Float[Tensor, "row width"]:
    """The stream at one position."""
    rows = gather_rows(to_rows_first(stream, layer.wiring), layer.wiring, [position], length=length)[:, 0]
    if rows.ndim != 2:
        raise NotMeasured(f"its stream holds {list(rows.shape[1:])} numbers for each token, not one vector")
    return rows


@without_gradients()
def top_tokens(model: TracedModel, rows: Float[np.ndarray, "row width"]) -> Int[np.ndarray, " row"]:
    """The token that the tail says for what might leave the last layer.

    Args:
        model: The model.
        rows: One vector each.
    """
    network = model.network
    tail = Tail(network)
    with in_evaluation_mode(network.call.module), keeping_loaded(network.outer_modules):
        given = torch.from_numpy(np.ascontiguousarray(rows)).to(network.device, network.dtype)
        size = max(1, _LOGITS_AT_A_TIME // network.anatomy.d_vocab)
        found = [tail(given[start : start + size]).argmax(dim=-1).cpu() for start in range(0, len(given), size)]
    return np.asarray(torch.cat(found).numpy())
