"""Which runs are of the same model: by the fingerprint of its weights and settings, or by what else is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

from layertracer.runs import ModelRecord, TraceRecord

_SIZES = ("class_name", "n_parameters", "n_layers", "d_model", "d_vocab", "dtype")


Identity: TypeAlias = tuple[str, int, int]
"""Fingerprint, number of parameters and of layers: what tells different models apart."""


def identify_models(records: Sequence[TraceRecord]) -> tuple[Identity, ...]:
    """For every run the identity of its model in this comparison.

    Laws: runs of one fingerprint have one identity; runs of two fingerprints of one form have two, whatever else is
    alike; the order of the runs does not matter. A run of an older version, whose fingerprint covers only the output
    embedding, takes that of a later run with the same sizes and the same revision, or name where no revision says
    otherwise, if no other run could be meant.

    Args:
        records: The runs.
    """
    models = [record.model for record in records]
    older, newer = (
        {_identity(one): [other for other in models if _identity(other) == _identity(one)] for one in some}
        for some in (
            [model for model in models if not model.has_whole_fingerprint],
            [model for model in models if model.has_whole_fingerprint],
        )
    )
    meant = {
        old: [new for new, others in newer.items() if any(map(_are_alike, product(some, others)))]
        for old, some in older.items()
    }
    n_claims = Counter(new for found in meant.values() for new in found)
    sure = {old: found[0] for old, found in meant.items() if len(found) == 1 and n_claims[found[0]] == 1}
    return tuple(sure.get(_identity(model), _identity(model)) for model in models)


def describe_same_models(records: Sequence[TraceRecord], labels: Sequence[str]) -> list[str]:
    """What to tell the user of models that are given twice, or may be."""
    identities, said = identify_models(records), []
    for index, identity in enumerate(identities):
        one, label, first = records[index].model, labels[index], identities.index(identity)
        if first != index:
            said.append(_describe_twin(one, records[first].model, label, labels[first]))
            continue
        others = [other for other in range(index) if _may_be_same(one, records[other].model)]
        if others and identity == _identity(one):
            said.append(
                f"Whether {label} and {labels[others[0]]} are the same weights cannot be told: {_FORMS}. They count as "
                "two models. Trace the earlier one again to know."
            )
    return said


_FORMS = "one was stored by an older LayerTracer, whose fingerprint covers only the output embedding"


def _describe_twin(one: ModelRecord, other: ModelRecord, label: str, twin: str) -> str:
    if one.fingerprint == other.fingerprint:
        covered = ": the same weights and settings" if one.has_whole_fingerprint else ""
        return f"{label} is the same model as {twin} (equal fingerprint{covered}): together they count as one."
    return (
        f"{label} is taken for the same model as {twin}, by its name or revision and its sizes: {_FORMS}. Together "
        "they count as one."
    )


def _identity(model: ModelRecord) -> Identity:
    return model.fingerprint, model.n_parameters, model.n_layers


def _are_alike(models: tuple[ModelRecord, ModelRecord]) -> bool:
    """Whether two models are one by all that is known of them beside their fingerprints."""
    one, other = models
    if not _have_same_sizes(one, other):
        return False
    if one.revision is not None and other.revision is not None:
        return one.revision == other.revision
    return one.name == other.name


def _may_be_same(one: ModelRecord, other: ModelRecord) -> bool:
    """Whether two models, of fingerprints that cannot be compared, differ at most in their names."""
    if one.has_whole_fingerprint == other.has_whole_fingerprint or not _have_same_sizes(one, other):
        return False
    return one.revision is None or other.revision is None or one.revision == other.revision


def _have_same_sizes(one: ModelRecord, other: ModelRecord) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _SIZES)
