"""The branches whose additions are attributed, and why those of a model are not."""

from __future__ import annotations

from layertracer._errors import SiteError
from layertracer.models import Role
from layertracer.tracing._batching.memory_budget import default_budget_bytes, parse_memory
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import TraceOptions, why_not_offered

BRANCHES: tuple[Role, ...] = ("mixer", "mlp")


def why_no_branches(model: TracedModel) -> dict[str, str]:
    """Why the additions of a branch are not looked at, by the branch."""
    found: dict[str, str] = {}
    for role in BRANCHES:
        try:
            reason = why_not_offered(model, f"{role}_output")
        except SiteError as error:
            reason = str(error)
        if reason is not None:
            found[role] = f"the site '{role}_output' {reason} in {model.name!r}"
    return found


def budget_of(model: TracedModel, options: TraceOptions) -> int:
    """Memory that may be taken beyond the weights."""
    return default_budget_bytes(model.network) if options.memory is None else parse_memory(options.memory)
