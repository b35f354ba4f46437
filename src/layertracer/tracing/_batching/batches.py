"""Batches of a bucket of prompts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from layertracer._errors import printable_cause
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._batching.memory_budget import PassPlan, out_of_memory
from layertracer.tracing._batching.prompts import Prompt

Result = TypeVar("Result")


def run_batches(
    network: Network,
    bucket: Sequence[Prompt],
    plan: PassPlan,
    run: Callable[[Sequence[Prompt], PassPlan], Result],
) -> Iterator[tuple[Sequence[Prompt], Result]]:
    """Each batch of a bucket with what `run` makes of it; where memory runs out, half goes into the next try.

    Args:
        network: The model.
        bucket: Prompts of one length.
        plan: How much goes into one pass at first.
        run: Called with a batch and the plan that holds by then.

    Raises:
        OutOfMemoryError: If not even the smallest pass fits.
    """
    remaining = list(bucket)
    while remaining:
        batch = remaining[: plan.n_prompts]
        try:
            result = run(batch, plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if plan.is_smallest:
                raise out_of_memory(network, len(bucket[0].ids)) from printable_cause(error)
            plan = plan.halved()
            continue
        yield batch, result
        remaining = remaining[len(batch) :]
