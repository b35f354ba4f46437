"""What a stored run says to be certain, held against the observations it rests on, and these against the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from layertracer._errors import UsageError
from layertracer.measures import NONE_FOUND, onset_from_dict
from layertracer.runs._equality import same_values
from layertracer.runs._header import read_certificate, to_json_value
from layertracer.runs._json_rules import described
from layertracer.runs._record import TraceRecord

_ROUNDING = 1e-6


def find_wrong_certificate(header: Mapping[str, Any]) -> Iterator[str]:
    """Observations that do not go together, or that nothing can be certified of.

    Args:
        header: The content of `run.json`, its fields of their types.
    """
    fields = header.get("certificate")
    if fields is None:
        return
    order, n_layers = fields["order"], header["shape"]["n_layers"]
    n_observed = [len(one) for one in fields["js_bits"] if one]
    if len(set(order)) < len(order) or max(order, default=-1) >= fields["n_prompts"]:
        yield f"certificate.order does not name different prompts of {fields['n_prompts']}"
    elif len(fields["js_bits"]) != n_layers or len(fields["particles"]) != len(order):
        yield f"certificate does not have observations of {n_layers} layers and a particle for each of its rounds"
    elif max(n_observed, default=0) != len(order) or fields["n_whole"] != min(n_observed, default=0):
        yield "certificate.js_bits does not have as many rounds as order and n_whole say"
    elif [layer for layer, one in enumerate(fields["js_bits"]) if not one] != header.get("layers_without_site", []):
        yield "certificate.js_bits is empty at other layers than those without the site"
    elif any(one is not None and one >= n_layers for one in fields["particles"]):
        yield f"certificate.particles names a layer beyond {n_layers - 1}"
    else:
        try:
            read_certificate(header)
        except UsageError as error:
            yield f"certificate cannot be: {error}"


def find_false_certificate(record: TraceRecord, header: Mapping[str, Any]) -> Iterator[str]:
    """What a certificate says that does not follow from its observations, and observations that the tables deny.

    Args:
        record: The run as it was read, its certificate made anew.
        header: The content of `run.json`.
    """
    if record.certificate is None:
        return
    stored, computed = header["certificate"], to_json_value(dataclasses.asdict(record.certificate))
    assert isinstance(computed, dict)  # as dataclasses are
    for name, value in computed.items():
        if not same_values(to_json_value(stored[name]), value):
            yield f"certificate.{name} is {described(stored[name])}, and its observations say {described(value)}"
            return
    yield from _find_denied(record)


def _find_denied(record: TraceRecord) -> Iterator[str]:
    """Rounds whose numbers are not those of the tables; of a selection of prompts nothing is said."""
    certificate = record.certificate
    assert certificate is not None  # as the caller has seen
    whole = certificate.order[: certificate.n_whole]
    if record.n_prompts != len(whole):
        return
    rows = np.argsort(np.argsort(whole))  # prompts stand in the tables in the order of the task
    observed = record.js_bits.astype(np.float64).mean(axis=1)[rows]
    particles = onset_from_dict(record.spec.onset).find(record.curves)[rows].tolist() if len(rows) else []
    for layer, told in enumerate(certificate.js_bits):
        if told and np.abs(observed[:, layer] - told[: len(whole)]).max(initial=0.0) > _ROUNDING:
            yield f"certificate.js_bits of layer {layer} is not the mean over the draws in the tables"
            return
    if [None if one == NONE_FOUND else one for one in particles] != list(certificate.particles[: len(whole)]):
        yield "certificate.particles are not those of the curves in the tables"
