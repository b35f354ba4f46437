"""The ladder pass: every lens row and every perturbed row of a model in one forward of its own code."""

from layertracer._types import MeasureInfo, SiteFacts
from layertracer.tracing._attribution.direct_logits import LogitAttribution, attribute_logits
from layertracer.tracing._attribution.encoded_facts import encode_facts
from layertracer.tracing._attribution.gradient import RemovalEstimates, estimate_removals
from layertracer.tracing._attribution.last_streams import LastStreams, gather_last_streams
from layertracer.tracing._attribution.not_measured import NotMeasured
from layertracer.tracing._attribution.relation import (
    SubjectMaps,
    SubjectStates,
    map_subjects,
    read_subjects,
    top_tokens,
)
from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures
from layertracer.tracing._batching.memory_budget import parse_memory
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.row_measures import PerturbedRows, register_row_measure
from layertracer.tracing._lens_fitting.fit import fit_lens
from layertracer.tracing._lens_fitting.grid import read_grid
from layertracer.tracing._lens_fitting.loading import load_lens
from layertracer.tracing._lens_fitting.quality import measure_lens_quality
from layertracer.tracing._lenses.affine import AffineLens
from layertracer.tracing._lenses.linear import LinearLens
from layertracer.tracing._lenses.protocol import Lens, register_lens, take_lenses
from layertracer.tracing._lenses.report import LensReport
from layertracer.tracing._lenses.storage import describe_lens
from layertracer.tracing._lenses.streams import gather_streams
from layertracer.tracing._make_substituter import make_substituter
from layertracer.tracing._model import Loadable, TracedModel, encode_for, is_module, load_model, wrap_model
from layertracer.tracing._observers.position_means import PositionMeans
from layertracer.tracing._observers.protocol import register_layer_measure
from layertracer.tracing._options import TraceOptions, why_not_offered
from layertracer.tracing._patching.prompts import CausalOptions, CausalPrompt
from layertracer.tracing._patching.readings import CausalInterrupted, CausalReadings, PromptCells
from layertracer.tracing._patching.run import run_causal
from layertracer.tracing._perturbers.protocol import Bench, LayerCall, register_perturber
from layertracer.tracing._plan import plan_trace
from layertracer.tracing._planning.layer_flops import LayerFlops, layer_flops
from layertracer.tracing._planning.trace_plan import BucketPlan, PlannedFlops, PrefixPlan, TracePlan
from layertracer.tracing._profile import LayerProfile, profile_layers
from layertracer.tracing._readings import Progress
from layertracer.tracing._readout import LensReadout, Readout, read_layers
from layertracer.tracing._record import describe_model, token_texts
from layertracer.tracing._site_rms import measure_site_rms
from layertracer.tracing._sites.protocol import register_site
from layertracer.tracing._substituter import Substituter
from layertracer.tracing._texts.text_rows import TextRows, TextSource, gather_text, runs_of, text_fingerprint
from layertracer.tracing._timing import time_forward
from layertracer.tracing._trace import MEASURING, TraceInterrupted, trace_model

__all__ = [
    "MEASURING",
    "AffineLens",
    "Bench",
    "BucketPlan",
    "CausalInterrupted",
    "CausalOptions",
    "CausalPrompt",
    "CausalReadings",
    "JudgedRow",
    "LastStreams",
    "LayerCall",
    "LayerFlops",
    "LayerProfile",
    "Lens",
    "LensReadout",
    "LensReport",
    "LinearLens",
    "Loadable",
    "LogitAttribution",
    "MeasureInfo",
    "NotMeasured",
    "PerturbedRows",
    "PlannedFlops",
    "PositionMeans",
    "PrefixPlan",
    "Progress",
    "PromptCells",
    "Readout",
    "RemovalEstimates",
    "RowMeasures",
    "SiteFacts",
    "SubjectMaps",
    "SubjectStates",
    "Substituter",
    "TextRows",
    "TextSource",
    "TraceInterrupted",
    "TraceOptions",
    "TracePlan",
    "TracedModel",
    "attribute_logits",
    "describe_lens",
    "describe_model",
    "encode_facts",
    "encode_for",
    "estimate_removals",
    "fit_lens",
    "gather_last_streams",
    "gather_streams",
    "gather_text",
    "is_module",
    "js_divergence",
    "layer_flops",
    "load_lens",
    "load_model",
    "make_substituter",
    "map_subjects",
    "measure_lens_quality",
    "measure_site_rms",
    "parse_memory",
    "plan_trace",
    "profile_layers",
    "read_grid",
    "read_layers",
    "read_subjects",
    "register_layer_measure",
    "register_lens",
    "register_perturber",
    "register_row_measure",
    "register_site",
    "run_causal",
    "runs_of",
    "take_lenses",
    "text_fingerprint",
    "time_forward",
    "token_texts",
    "top_tokens",
    "trace_model",
    "why_not_offered",
    "wrap_model",
]
