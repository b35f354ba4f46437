"""The ways in which causal tracing computes its cells, from the fastest to the plainest, and models that have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from layertracer._errors import SiteError
from layertracer._types import Method
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import why_not_offered
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._patching.prompts import CausalOptions, CausalPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One of the ways in which cells are computed.

    Attributes:
        name: What sets it apart, as the end of a sentence.
        method: Whether cells share passes.
        cached: How rows go on from what they remember; None where whole prompts are run.
    """

    name: str
    method: Method
    cached: CachedLadder | None


def ways_of(
    model: TracedModel, prompts: Sequence[CausalPrompt], options: CausalOptions, notes: list[str]
) -> Iterator[Way]:
    """The fastest way that is proved for a model, and those that are slower."""
    if model.self_check.method == "ladder":
        cached, why_not = _cached_ladder(model, prompts, options)
        if why_not:
            notes.append(
                f"Tokens before the patched position are read again for every cell, which takes longer: {why_not}."
            )
        if cached is not None:
            yield Way(name="", method="ladder", cached=cached)
        yield Way(name="without the model's own cache", method="ladder", cached=None)
    yield Way(name="by the plain method, one prompt and one hooked forward at a time", method="plain", cached=None)


def _cached_ladder(
    model: TracedModel, prompts: Sequence[CausalPrompt], options: CausalOptions
) -> tuple[CachedLadder | None, str]:
    """How rows go on from what they remember, or why they do not."""
    if all(len(prompt.ids) == 1 for prompt in prompts):
        return None, ""
    read = {token for prompt in prompts for token in (*prompt.ids, *(prompt.corrupted_ids or ()))}
    if uncounted := sorted(model.network.uncounted_tokens & read):
        return None, (
            f"some hold token {uncounted[0]}, the padding token, which the model does not count as a position"
        )
    try:
        return model.prefix_proof.ladder(options.site), ""
    except SiteError as refusal:
        return None, str(refusal)


def refuse_unsuited(model: TracedModel, options: CausalOptions) -> None:
    """Raise where a model is none in which values can be put from one run into another.

    Raises:
        SiteError: If it has an encoder, or the site is not offered.
    """
    if model.network.call.has_encoder:
        raise SiteError(
            f"{model.name!r} reads one text with an encoder and writes another with its decoder: causal tracing is of "
            "one text, whose positions stand for one another in two runs. Use a decoder-only model."
        )
    if why_not := why_not_offered(model, options.site):
        raise SiteError(
            f"The site {options.site!r} {why_not.strip(',')} in {model.name!r}. Use site='block_output', which every "
            "model has."
        )
