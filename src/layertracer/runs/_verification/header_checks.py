"""Fields of `run.json` that cannot be: of another type, out of range, or at odds with one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from layertracer._errors import LayerTracerError
from layertracer.measures import ONSET_NAMES, onset_from_dict
from layertracer.runs._columns import find_column_faults
from layertracer.runs._effects import effect_keys
from layertracer.runs._header_fields import FILES, HEADER
from layertracer.runs._json_rules import Nullable, Number, described
from layertracer.runs._schema import TABLES
from layertracer.runs._tables import Sizes
from layertracer.runs._verification.certificates import find_wrong_certificate

_PARAMETER = Nullable(Number(low=-math.inf, finite=False))
_PERTURBATIONS: Mapping[str, tuple[str, ...]] = {
    "mask": ("site", "draws", "scheme", "fill"),
    "noise": ("site", "draws", "scale"),
    "skip": (),
}
"""What the perturbations that are known here always say of themselves."""


def find_header_faults(header: Mapping[str, Any]) -> list[str]:
    """What is wrong with the fields of `run.json`, each with its name, what it is, and what it must be.

    Where fields are not of their types, how they go together is not looked at.

    Args:
        header: The content of `run.json`.
    """
    faults = list(HEADER.faults(header, ""))
    return faults or list(_find_contradictions(header))


def find_file_faults(header: Mapping[str, Any]) -> list[str]:
    """What is wrong with the list of tables alone: before it is right, no table is opened."""
    return list(FILES.faults(header.get("files"), "files"))


def _find_contradictions(header: Mapping[str, Any]) -> Iterator[str]:
    shape, layers = header["shape"], header["model"]["layers"]
    if shape["n_layers"] != len(layers):
        yield f"shape.n_layers is {shape['n_layers']}, and model.layers are {len(layers)}"
    odd = [index for index, layer in enumerate(layers) if layer["index"] != index]
    if odd:
        yield f"model.layers[{odd[0]}].index is {layers[odd[0]]['index']}, and must be {odd[0]}"
    if shape["n_prompts"] > header["n_requested"]:
        yield f"shape.n_prompts is {shape['n_prompts']}, and n_requested is {header['n_requested']}"
    if (header["status"] == "complete" and header["error"] is not None) or (
        header["status"] == "failed" and header["error"] is None
    ):
        is_there = "null" if header["error"] is None else "an error"
        yield f'error is {is_there}, and status is "{header["status"]}"'
    sets = header.get("demonstration_sets")
    if sets is not None and len(sets) != shape["n_prompts"]:
        yield f"demonstration_sets has {len(sets)} numbers, and shape.n_prompts is {shape['n_prompts']}"
    beyond = [layer for layer in header.get("layers_without_site", ()) if layer >= shape["n_layers"]]
    if beyond:
        yield f"layers_without_site names layer {beyond[0]}, and shape.n_layers is {shape['n_layers']}"
    yield from _find_wrong_checks(header["self_check"]["checks"])
    yield from _find_wrong_audit(header)
    yield from _find_wrong_rows(header)
    yield from _find_wrong_onset(header["spec"]["onset"])
    yield from _find_wrong_perturbation(header["spec"]["perturbation"], shape["n_draws"], "spec.perturbation")
    yield from _find_wrong_named(header)
    yield from find_wrong_certificate(header)
    yield from find_column_faults(header)


def _find_wrong_named(header: Mapping[str, Any]) -> Iterator[str]:
    """Further perturbations and lenses that are not those that were asked for."""
    spec, further = header["spec"], header["shape"]["n_further_draws"]
    asked = spec["further_perturbations"]
    if len(asked) != len(further):
        yield f"shape.n_further_draws has {len(further)} numbers, and spec.further_perturbations {len(asked)} entries"
    for index, (perturbation, n_draws) in enumerate(zip(asked, further, strict=False)):
        yield from _find_wrong_perturbation(perturbation, n_draws, f"spec.further_perturbations[{index}]")
    keys = effect_keys([spec["perturbation"], *asked])
    odd = [key for key in keys if keys.count(key) > 1]
    if odd:
        yield f"spec has a perturbation at the site {described(odd[0])}, which stands for another one"
    names = [lens["name"] for lens in header["lenses"]]
    if len(set(names)) < len(names):
        yield "lenses has a name twice"
    asked_lenses = spec["lenses"]
    for name in (one for one in asked_lenses if one not in names):
        yield f"spec.lenses names {described(name)}, which is none of lenses"
    for name in (one for one in names if one not in asked_lenses):
        yield f"lenses has {described(name)}, which spec.lenses does not name"


def _find_wrong_checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for index, check in enumerate(checks):
        if check["passed"] != (check["error"] <= check["tolerance"]):  # NaN is within nothing
            yield (
                f"self_check.checks[{index}].passed is {str(check['passed']).lower()}, its error {check['error']:g} "
                f"and its tolerance {check['tolerance']:g}"
            )


def _find_wrong_audit(header: Mapping[str, Any]) -> Iterator[str]:
    """Counts of what was measured again that cannot stand beside one another, and a method that came of nothing."""
    audit, method, proved = header.get("audit"), header["method"], header["self_check"]["method"]
    if audit is None:
        return
    n_cells, n_forwards = audit["n_cells"], audit["n_forwards"]
    if not n_cells >= n_forwards >= audit["n_drawn"]:
        yield (
            f"audit.n_cells is {n_cells}, n_forwards {n_forwards} and n_drawn {audit['n_drawn']}; every forward is "
            "compared, and those drawn are among them"
        )
    if (n_cells > 0) != (n_forwards > 0) or (n_cells > 0) != (audit["worst_nats"] is not None):
        yield f"audit.n_cells is {n_cells}, n_forwards {n_forwards} and worst_nats {described(audit['worst_nats'])}"
    if audit["worst_bits"] is not None and not n_cells:
        yield f"audit.worst_bits is {audit['worst_bits']:g}, and n_cells 0"
    if n_cells and not audit["share"]:
        yield f"audit.n_cells is {n_cells}, and its share of the trace 0"
    if method != proved and (proved == "plain" or not audit["notes"]):
        yield f'method is "{method}", self_check.method "{proved}", and no note of the audit says why'


def _find_wrong_rows(header: Mapping[str, Any]) -> Iterator[str]:
    sizes = Sizes.of_header(header)
    for table in TABLES:
        n_rows, expected = header["files"][table.file]["n_rows"], sizes.n_rows(table)
        if table.axes and n_rows != expected:
            yield f"files.{table.file}.n_rows is {n_rows}, and {expected} follow from shape"


def _find_wrong_onset(onset: Mapping[str, Any]) -> Iterator[str]:
    """Parameters of a criterion that it cannot have; one that is unknown here may have any."""
    if onset["kind"].lower().replace("-", "_") not in ONSET_NAMES:
        return
    wrong = [
        fault for name in onset if name != "kind" for fault in _PARAMETER.faults(onset[name], f"spec.onset.{name}")
    ]
    yield from wrong
    try:
        _ = wrong or onset_from_dict(onset)
    except (LayerTracerError, TypeError) as error:
        yield f"spec.onset is no criterion: {' '.join(str(error).split())}"


def _find_wrong_perturbation(perturbation: Mapping[str, Any], n_draws: int, place: str) -> Iterator[str]:
    """Parameters that a perturbation must have and has not; one that is unknown here may have any."""
    needed = _PERTURBATIONS.get(perturbation["kind"])
    if needed is None:
        return
    if perturbation["kind"] == "mask" and perturbation.get("scheme") != "explicit":
        needed = (*needed, "fraction")
    for name in needed:
        if name not in perturbation:
            yield f"{place}.{name} is missing"
    if perturbation.get("draws", n_draws) != n_draws:
        drawn = "shape.n_draws" if place == "spec.perturbation" else "in shape.n_further_draws its number"
        yield f"{place}.draws is {perturbation['draws']}, and {drawn} is {n_draws}"
