"""What was asked and of which model, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from layertracer._types import SITES, LargestLayer, TaskParticle, VulnerableLayer
from layertracer.reports._values.numbers import show_count, show_parameters, show_ranges, show_share
from layertracer.reports._values.visible import shorten, visible_line
from layertracer.runs import ModelRecord, TraceRecord, TraceSpec

MIXERS_AND_DEPTH = "Kinds sit at different depths: a difference between them is also one of depth."


def model_name(record: TraceRecord) -> str:
    """The model's name as a label."""
    return shorten(visible_line(record.model.name), 80) or "model"


def task_name(spec: TraceSpec) -> str:
    """The task's name as a label."""
    return shorten(visible_line(str(spec.task.get("name", ""))), 80) or "prompts"


def site_name(spec: TraceSpec) -> str:
    """The site of a trace's first perturbation, in words."""
    return site_words(spec.perturbation)


def site_words(perturbation: Mapping[str, Any]) -> str:
    """A perturbed site, in words."""
    site = str(perturbation.get("site", "block_output"))
    facts = SITES.get(site)
    return visible_line(site).replace("_", " ") if facts is None else facts.words


def missing_part(spec: TraceSpec) -> str:
    """What a layer without the perturbed site lacks, e.g. "no MLP"; "no mixer here" then says it of one layer."""
    return part_missing(spec.perturbation)


def part_missing(perturbation: Mapping[str, Any]) -> str:
    """What a layer without a perturbed site lacks, e.g. "no MLP"."""
    facts = SITES.get(str(perturbation.get("site", "block_output")))
    return f"no {site_words(perturbation) if facts is None else facts.part}"


def perturbation_clause(spec: TraceSpec) -> str:
    """What was done to the layer, as the end of a sentence.

    A mask reads "when 20 % of the mixer output is masked".
    """
    return clause_of(spec.perturbation)


def clause_of(asked: Mapping[str, Any]) -> str:
    """What a perturbation does to the layer, as the end of a sentence."""
    site = site_words(asked)
    where = f"{site} at the last position" if asked.get("positions") == "last" else site
    if asked.get("kind") == "skip":
        return "when the layer is skipped" + (" at the last position" if asked.get("positions") == "last" else "")
    if asked.get("kind") == "noise":
        return f"under noise of {asked.get('scale', 0):g} RMS at the {where}"
    if asked.get("kind", "mask") != "mask":
        return f"under the perturbation '{shorten(visible_line(str(asked['kind'])), 60)}' of the {where}"
    if "fraction" in asked:
        return f"when {100 * float(asked['fraction']):g} % of the {where} is masked"
    return f"under the given mask of the {where}"


def no_interval_clause(particle: TaskParticle) -> str:
    """That a layer has no interval, and, where resamples do not find it, in how many.

    A layer that three resamples of four find reads "no interval: in 24 % of resamples there is none".
    """
    if particle.interval_share_found == 1:
        return "no interval"
    return f"no interval: in {show_share(1 - particle.interval_share_found)} of resamples there is none"


def edge_clause(vulnerable: LargestLayer, n_layers: int) -> str:
    """That a layer is the first or the last one, which are special in most models; nothing for all others."""
    if not vulnerable.is_edge or n_layers == 1:
        return ""
    return f", the {'first' if vulnerable.layer == 0 else 'last'} one"


def contenders_clause(vulnerable: LargestLayer, n_layers: int) -> str:
    """Why no layer stands out, in words.

    Several contenders read "27 of 30 layers (3–29) cannot be told from the largest".
    """
    if vulnerable.interval is None:
        few = (vulnerable.note or "the trace").split(":")[0]
        return f"{few} cannot tell layers apart"
    which = f"{len(vulnerable.contenders)} of {show_count(n_layers, 'layer')} ({show_ranges(vulnerable.contenders)})"
    return f"{which} cannot be told from the largest"


def is_sole(record: TraceRecord) -> bool:
    """Whether only one of several layers has the perturbed site, so that no other one could be the answer."""
    return record.n_layers > 1 and record.n_layers - len(record.layers_without_site) == 1


def vulnerable_label(vulnerable: VulnerableLayer) -> str:
    """What a mark at the layer of the largest divergence says."""
    return (
        f"vulnerable layer {vulnerable.layer}" if vulnerable.is_clear else f"largest at {vulnerable.layer}, not clear"
    )


def other_sites_advice(spec: TraceSpec) -> str:
    """What to ask instead where no layer stands out."""
    asked = {str(one.get("site", "block_output")) for one in spec.perturbations}
    sites = [site for site in ("mixer_output", "mlp_output", "block_output", "state") if site not in asked]
    if not sites:
        return "More prompts and more draws tell closer layers apart."
    options = " or ".join(f"--site {site}" for site in sites[:2])
    return (
        f"Ask at another site instead ({options}; in Python Mask(site={sites[0]!r})): each perturbs another part of "
        "the layer. More prompts and more draws tell closer layers apart."
    )


def criterion_name(criterion: Mapping[str, Any]) -> str:
    """An onset criterion with its parameters, e.g. "rise (delta 0.05, sigmas 2, floor 0.01)"."""
    parameters = [
        f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}"
        for name, value in criterion.items()
        if name != "kind"
    ]
    kind = criterion_kind(criterion)
    return visible_line(f"{kind} ({', '.join(parameters)})") if parameters else kind


def criterion_kind(criterion: Mapping[str, Any]) -> str:
    """An onset criterion's name."""
    return visible_line(str(criterion.get("kind", "criterion")))


def count_kinds(kinds: list[str]) -> str:
    """Kinds with their counts, most frequent first, e.g. "9 gated_deltanet + 3 attention"."""
    counts = Counter(kinds)
    if len(counts) == 1:
        return visible_line(next(iter(counts)))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " + ".join(f"{count} {visible_line(kind)}" for kind, count in ordered)


def anatomy_facts(model: ModelRecord) -> tuple[str, ...]:
    """The model's anatomy in a few words each; joined, they are one line."""
    mixers = count_kinds([layer.mixer for layer in model.layers])
    mlps = count_kinds([layer.mlp for layer in model.layers])
    return (
        f"{model.n_layers} layer{'' if model.n_layers == 1 else 's'} ({mixers}; MLP {mlps})",
        f"width {model.d_model:,}",
        f"vocabulary {model.d_vocab:,}",
        f"{show_parameters(model.n_parameters)} parameters",
        f"{visible_line(model.dtype)} on {visible_line(model.device)}",
    )
