"""Errors out of a model's own code, told from those of the way in which it is run here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from layertracer._errors import LayerTracerError, ModelError
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._prompts import Prompt, bind_batch


@contextmanager
def naming_failures(network: Network, batch: Sequence[Prompt], *, doing: str) -> Iterator[None]:
    """Whatever is raised in the block and is no error of ours becomes a `ModelError` that says whose fault it is.

    Args:
        network: The model.
        batch: The prompts that are run.
        doing: What is done to it, as the end of "while".

    Raises:
        ModelError: The cause is what was raised.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, LayerTracerError) or is_out_of_memory(error):
            raise
        raise explain_failure(network, batch, error, doing=doing) from error


def explain_failure(network: Network, batch: Sequence[Prompt], error: Exception, *, doing: str) -> ModelError:
    """The error for what a run raised: the model's own where it raises on the same prompts by itself, else ours."""
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    bound, ids = bind_batch(network, batch)
    try:
        bound.call(ids)
    except Exception as own:  # noqa: BLE001 - whatever the model's own code raises
        if not is_out_of_memory(own):
            return ModelError(
                f"{network.name!r} raised an error of its own while {doing}: {said}. It does so on these prompts by "
                "itself, too: the cause is in the model's own code, or in tokens that it does not read."
            )
    return ModelError(
        f"{network.name!r} runs on these prompts by itself, but not while {doing}: {said}. That is how LayerTracer "
        "runs it, not the model: please report it with the model's class and this error."
    )
