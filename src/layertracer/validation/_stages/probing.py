"""Probes of the stream: whether the answer can be read off it, beside a control task."""

from __future__ import annotations

from layertracer.evidence import Probing
from layertracer.runs import from_tree, to_tree
from layertracer.validation._importance.probes import probe_layers
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found


def take_probes(setting: Setting) -> Found:
    """Probes of the answer, layer by layer, where several prompts have one answer.

    Raises:
        TaskError: If answers are too many for the prompts, as those of word pairs are.
    """
    probes = probe_layers(setting.model, setting.samples, seed=setting.options.seed)
    return Found(facts={"probes": to_tree(list(probes))})


def unpack_probes(found: Found) -> tuple[Probing, ...]:
    """The probes of a stage."""
    return tuple(from_tree(Probing, one) for one in found.facts["probes"])
