"""A network's insides: where it comes from, how it is called, and which layers it has."""

from layertracer.models._anatomy.additions import Addition, Additions, Role
from layertracer.models._anatomy.anatomy import Anatomy, Layer
from layertracer.models._anatomy.dataflow import ADDITIONS, CONTRACTIONS, has_stream_shape, operand_tensors
from layertracer.models._anatomy.mixer_and_mlp import Part
from layertracer.models._anatomy.op_sites import OpSites
from layertracer.models._anatomy.replay import rounding_between_positions
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._anatomy.wiring import PROBE_BATCHES, BatchAxis, Signature, Wiring, batch_axes, signature_of
from layertracer.models._caches.cache_map import StateMap, StatePiece
from layertracer.models._caches.cached_call import CachedCall, LayerCache, UnusableCacheError, find_cached_call
from layertracer.models._caches.continuation import (
    CallForm,
    Continuation,
    continuations_of_spans,
    continuations_of_steps,
)
from layertracer.models._calling.call import ModelCall, find_logits
from layertracer.models._calling.grouped_heads import grouped_heads
from layertracer.models._calling.hooks import CallRecord, call_again, hooking, observe_calls, replacing_forward
from layertracer.models._calling.object_graph import TensorPlace, copy_with, find_places, find_tensors
from layertracer.models._calling.out_of_memory import is_out_of_memory
from layertracer.models._calling.pytree import Leaves, cloned, flatten, unflatten_into
from layertracer.models._compiled import compile_layers, why_not_compilable
from layertracer.models._loading.embedded import EmbeddedModel, list_embedded
from layertracer.models._loading.placement import DeviceMap
from layertracer.models._network import Network, make_network
from layertracer.models._recording import recording_gradients
from layertracer.models._sources import LoadedParts, load_parts
from layertracer.models._tokenizers.given import find_tokenizer, take_tokenizer
from layertracer.models._weights.digests import digest_values
from layertracer.models._weights.fingerprint import fingerprint
from layertracer.models._weights.gradients import in_evaluation_mode, without_gradients
from layertracer.models._weights.offload import (
    execution_devices,
    fetch_weight,
    is_placed,
    keeping_loaded,
    n_distinct_parameters,
)
from layertracer.models._weights.shapes import has_matrix, is_quantised, named_weights

__all__ = [
    "ADDITIONS",
    "CONTRACTIONS",
    "PROBE_BATCHES",
    "Addition",
    "Additions",
    "Anatomy",
    "BatchAxis",
    "CachedCall",
    "CallForm",
    "CallRecord",
    "Continuation",
    "DeviceMap",
    "EmbeddedModel",
    "Layer",
    "LayerCache",
    "Leaves",
    "LoadedParts",
    "ModelCall",
    "Network",
    "OpSites",
    "Part",
    "Role",
    "Signature",
    "StateMap",
    "StatePiece",
    "StreamShape",
    "TensorPlace",
    "UnusableCacheError",
    "Wiring",
    "batch_axes",
    "call_again",
    "cloned",
    "compile_layers",
    "continuations_of_spans",
    "continuations_of_steps",
    "copy_with",
    "digest_values",
    "execution_devices",
    "fetch_weight",
    "find_cached_call",
    "find_logits",
    "find_places",
    "find_tensors",
    "find_tokenizer",
    "fingerprint",
    "flatten",
    "grouped_heads",
    "has_matrix",
    "has_stream_shape",
    "hooking",
    "in_evaluation_mode",
    "is_out_of_memory",
    "is_placed",
    "is_quantised",
    "keeping_loaded",
    "list_embedded",
    "load_parts",
    "make_network",
    "n_distinct_parameters",
    "named_weights",
    "observe_calls",
    "operand_tensors",
    "recording_gradients",
    "replacing_forward",
    "rounding_between_positions",
    "signature_of",
    "take_tokenizer",
    "unflatten_into",
    "why_not_compilable",
    "without_gradients",
]
