"""From what was measured to the record that is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from layertracer._types import (
    Audit,
    Certificate,
    EncodedSample,
    LayerMeasure,
    Mask,
    Method,
    Perturbation,
    Status,
    panics_as_errors,
)
from layertracer.measures import join_clusters
from layertracer.models import fingerprint, n_distinct_parameters
from layertracer.runs import (
    EffectRecord,
    LensRecord,
    ModelRecord,
    PromptRecord,
    TraceRecord,
    TraceSpec,
    collect_provenance,
    effect_keys,
)
from layertracer.tasks import TookTooLong, within
from layertracer.tracing._distributions.row_measures import ROW_MEASURES
from layertracer.tracing._failures import describe_error
from layertracer.tracing._lenses.protocol import Lens
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.protocol import LAYER_MEASURES
from layertracer.tracing._passes.row_groups import DrawAxis
from layertracer.tracing._planning.trace_plan import TracePlan
from layertracer.tracing._readings import Readings
from layertracer.tracing._sites.protocol import SITES
from layertracer.tracing._whole_answers import AnswersRead

_TEXTS_S = 60.0
"""Texts of all tokens of a record take a second; what was measured does not wait for longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordParts:
    """What is known of a trace before it runs."""

    model: TracedModel
    samples: Sequence[EncodedSample]
    perturbations: Sequence[Perturbation]
    lenses: Sequence[Lens]
    spec: TraceSpec
    warnings: tuple[str, ...]
    command: Sequence[str] | None
    started_at: datetime
    method: Method
    plan: TracePlan | None = None
    audit: Audit | None = None
    certificate: Certificate | None = None


def build_record(
    parts: RecordParts,
    readings: Readings,
    site_rms: Sequence[Tensor | None],
    *,
    status: Status,
    error: BaseException | None,
    elapsed_s: float,
) -> TraceRecord:
    """The record of the prompts that were finished, in the order given."""
    done = np.flatnonzero(readings.finished)
    effects = _effect_records(parts, readings, site_rms, done)
    first = next(iter(effects.values()))
    clusters = _clusters(parts.samples)
    prompts = tuple(_prompt_record(parts.samples[index], readings, index, clusters[index]) for index in done.tolist())
    logit = readings.logit
    log_prob, rank = readings.of_all_continuations("logit")
    return TraceRecord(
        spec=parts.spec,
        model=describe_model(parts.model),
        self_check=parts.model.check_so_far(),
        provenance=collect_provenance(command=parts.command, started_at=parts.started_at),
        prompts=prompts,
        target_log_prob=log_prob[done, 1:],
        embedding_log_prob=log_prob[done, 0],
        target_rank=rank[done],
        entropy_bits=logit.entropy_bits[done],
        js_bits=first.js_bits,
        top_ids=logit.top_ids[done],
        top_prob=logit.top_prob[done],
        dominant_dimension=first.dominant_dimension,
        dominant_ratio=first.dominant_ratio,
        dominant_hit=first.dominant_hit,
        effects=effects,
        tokens=token_texts(parts.model.tokenizer, _occurring(prompts, readings, done)),
        method=parts.method,
        status=status,
        error=None if error is None else describe_error(error),
        warnings=(*parts.model.self_check.notes, *parts.warnings),
        elapsed_s=elapsed_s,
        n_requested=len(parts.samples),
        measures={
            name: LayerMeasure(info=LAYER_MEASURES[name].info, values=values[done])
            for name, values in readings.measures.items()
        },
        lenses={lens.name: _lens_record(lens, readings, done) for lens in parts.lenses},
        plan=None if parts.plan is None else parts.plan.to_dict(),
        audit=parts.audit,
        certificate=parts.certificate,
    )


def _effect_records(
    parts: RecordParts,
    readings: Readings,
    site_rms: Sequence[Tensor | None],
    done: NDArray[np.intp],
) -> dict[str, EffectRecord]:
    """What each perturbation does, its draws cut out of the axis on which those of all of them stand."""
    axis, n_layers = DrawAxis.of(parts.perturbations), parts.model.anatomy.n_layers
    specs = [perturbation.to_dict() for perturbation in parts.perturbations]
    effects = {}
    for number, (key, perturbation) in enumerate(zip(effect_keys(specs), parts.perturbations, strict=True)):
        dimension, ratio = _dominant_dimensions(site_rms[number], n_layers)
        width = SITES[perturbation.site].width(parts.model.network)
        draws = axis.span(number)
        effects[key] = EffectRecord(
            key=key,
            perturbation=specs[number],
            rows={name: values[done][:, draws.start : draws.stop] for name, values in readings.rows.items()},
            infos={name: ROW_MEASURES[name].info for name in readings.rows},
            dominant_dimension=dimension,
            dominant_ratio=ratio,
            # Where every prompt has masks of its own, no draw masks a dimension in all of them.
            dominant_hit=_hits(perturbation, dimension, width=width)
            if parts.certificate is None
            else np.zeros((len(draws), n_layers), bool),
        )
    return effects


def _lens_record(lens: Lens, readings: Readings, done: NDArray[np.intp]) -> LensRecord:
    """What another lens than the logit lens reads of the prompts that were finished."""
    read = readings.lenses[lens.name]
    log_prob, rank = readings.of_all_continuations(lens.name)
    return LensRecord(
        name=lens.name,
        meaning=lens.meaning,
        details=dict(lens.details),
        target_log_prob=log_prob[done, 1:],
        embedding_log_prob=log_prob[done, 0],
        target_rank=rank[done],
        entropy_bits=read.entropy_bits[done],
        top_ids=read.top_ids[done],
        top_prob=read.top_prob[done],
    )


def describe_model(model: TracedModel) -> ModelRecord:
    """A model described without its weights."""
    return ModelRecord(
        name=model.name,
        class_name=type(model.module).__name__,
        revision=model.network.revision,
        layers=tuple(layer.to_record() for layer in model.anatomy.layers),
        d_model=model.anatomy.d_model,
        d_vocab=model.anatomy.d_vocab,
        n_parameters=n_distinct_parameters(model.module),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        fingerprint=fingerprint(model.module),
    )


def _clusters(samples: Sequence[EncodedSample]) -> Sequence[int | None]:
    """What intervals resample: the sets of demonstrations; with several templates, prompts that share either."""
    sets = [sample.demonstration_set for sample in samples]
    templates = [sample.template for sample in samples]
    return sets if all(template is None for template in templates) else join_clusters(sets, templates)


def _prompt_record(sample: EncodedSample, readings: Readings, index: int, cluster: int | None) -> PromptRecord:
    top, target = readings.top1_ids[index], readings.target_ids[index]
    answers = readings.answers.get(index, AnswersRead())
    return PromptRecord(
        prompt_ids=sample.prompt_ids,
        answer_ids=sample.answer_ids,
        target_ids=target,
        top_id=top[0],
        top_prob=float(readings.logit.top_prob[index, -1, 0]),
        solved=answers.solved,
        prompt_text=sample.prompt_text,
        answer_text=sample.answer_text,
        begins=answers.begins,
        n_lead=sample.n_lead,
        other_answer_ids=tuple(other.ids for other in sample.others),
        other_answer_texts=tuple(other.text for other in sample.others if other.text is not None),
        demonstration_set=cluster,
    )


def _dominant_dimensions(
    site_rms: Float[Tensor, "layer width"] | None, n_layers: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The dimension of the largest root mean square in each layer, and its ratio to the median dimension's."""
    if site_rms is None:
        return np.zeros(n_layers, np.int32), np.full(n_layers, np.nan, np.float32)
    rms = site_rms.numpy()
    dimension = rms.argmax(axis=1).astype(np.int32)
    median = np.median(rms, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (rms.max(axis=1) / median).astype(np.float32)
    return dimension, np.where(median > 0, ratio, np.float32("nan"))


def _hits(perturbation: Perturbation, dimension: NDArray[np.int32], *, width: int) -> NDArray[np.bool_]:
    """Whether a draw masks a layer's dominant dimension, [draw, layer]."""
    if not isinstance(perturbation, Mask) or not SITES[perturbation.site].facts.has_dimensions:
        return np.zeros((perturbation.n_draws, len(dimension)), bool)
    keep = perturbation.keep_array(n_layers=len(dimension), width=width)
    return ~keep[np.arange(len(dimension)), :, dimension].T


def _occurring(prompts: Sequence[PromptRecord], readings: Readings, done: NDArray[np.intp]) -> list[int]:
    """Every token id that a record mentions."""
    occurring = {token for lens in readings.lenses.values() for token in np.unique(lens.top_ids[done]).tolist()}
    for prompt in prompts:
        occurring.update(prompt.prompt_ids, prompt.answer_ids, prompt.target_ids, (prompt.top_id,))
    return sorted(occurring)


def token_texts(tokenizer: Any, ids: Sequence[int]) -> Mapping[int, str]:
    """The text of single tokens; without a tokenizer their ids.

    Laws: no ids give no texts, which a tokenizer asked for the texts of nothing need not.
    """
    if tokenizer is None or not ids:
        return {token: str(token) for token in ids}
    try:
        texts, spelled = within(_TEXTS_S, lambda: (_decoded(tokenizer, ids), _spelled(tokenizer, ids)))
    except TookTooLong:
        return {token: str(token) for token in ids}
    return {
        # SentencePiece marks the leading space in the vocabulary and drops it when it decodes a token alone.
        token: f" {text}" if spelling.startswith("▁") and not text.startswith(" ") else text
        for token, text, spelling in zip(ids, texts, spelled, strict=True)
    }


def _decoded(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Every token decoded; its id where the tokenizer knows fewer tokens than the model, which must cost no trace."""
    try:
        with panics_as_errors():
            said = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
        return [str(text) for _, text in zip(ids, said, strict=True)]
    except Exception:  # noqa: BLE001 - whatever a tokenizer's own code raises, for a token or for want of this method
        return [_said_of(tokenizer.decode, [token], otherwise=str(token)) for token in ids]


def _spelled(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Every token as the vocabulary spells it; nothing where it is not in it."""
    try:
        with panics_as_errors():
            spelled = tokenizer.convert_ids_to_tokens(list(ids))
        return [str(spelling) for _, spelling in zip(ids, spelled, strict=True)]
    except Exception:  # noqa: BLE001 - as above
        return [_said_of(lambda one: tokenizer.convert_ids_to_tokens(one)[0], [token], otherwise="") for token in ids]


def _said_of(say: Callable[[list[int]], Any], token: list[int], *, otherwise: str) -> str:
    try:
        with panics_as_errors():
            return str(say(token))
    except Exception:  # noqa: BLE001 - as above
        return otherwise
