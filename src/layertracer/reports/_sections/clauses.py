"""What the leads of several sections say: where the answers lie, what bands and gaps are."""

from __future__ import annotations

from layertracer._types import VulnerableLayer
from layertracer.measures import note_on_curves, note_on_means
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.wording import contenders_clause, edge_clause, missing_part
from layertracer.runs import TraceRecord


def marked(overview: Overview) -> str:
    particle, vulnerable = overview.findings.particle, overview.findings.vulnerable
    where = "at no layer" if particle is None or particle.layer is None else f"at layer {particle.layer}"
    return f"the task particle lies {where}{_fragile(vulnerable, len(overview.target.mean))}"


def _fragile(vulnerable: VulnerableLayer | None, n_layers: int) -> str:
    """What is said of the vulnerable layer behind what was said of the particle."""
    if vulnerable is None:
        return ""
    if vulnerable.is_clear:
        return f"; the vulnerable layer is {vulnerable.layer}{edge_clause(vulnerable, n_layers)}"
    return f"; no layer stands out as the most vulnerable: {contenders_clause(vulnerable, n_layers)}"


def shaded(overview: Overview) -> str:
    """What the shaded bands behind marked layers are."""
    vulnerable = overview.findings.vulnerable
    if vulnerable is None or vulnerable.is_clear:
        return " Shaded columns: the interval of a marked layer."
    return (
        " Shaded columns: above, the interval of the task particle; below, from the first to the last layer that "
        "cannot be told from the largest. None stands out."
    )


def bands(record: TraceRecord) -> str:
    """What the bands around the means are."""
    if record.n_prompts == 1:
        return "One prompt has no interval."
    above, below = note_on_curves(record.n_prompts, record.sampling), _below(record)
    if above is None and below is not None:
        return f"Bold: mean, above with its 95 % interval over prompts, below without ({below}). Faint: single prompts."
    if above is not None:
        rest = (
            "no interval" if below is not None else f"above without interval, below with its 95 % one {_over(record)}"
        )
        why = above if below in (None, above) else f"{above}; {below}"
        return f"Bold: mean, {rest} ({why}). Faint: single prompts."
    return f"Bold: mean, with its 95 % interval (above over prompts, below {_over(record)}). Faint: single prompts."


def _over(record: TraceRecord) -> str:
    """What the intervals of divergences are over."""
    return "over prompts and draws" if record.sampling.has_random_draws else "over prompts"


def _below(record: TraceRecord) -> str | None:
    """Why the lower curve has no band; None where it has one."""
    return note_on_means(record.n_prompts, record.n_draws, record.sampling)


def gaps(record: TraceRecord, beginning: str) -> str:
    """A sentence on layers without the perturbed site; nothing where every layer has it."""
    return f" {beginning} {missing_part(record.spec)}." if record.layers_without_site else ""
