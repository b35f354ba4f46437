"""The logit lens of whatever prompts a user has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

from layertracer._types import checked_whole
from layertracer.api._asked import LensLike, ModelLike, TaskLike, prompts_for
from layertracer.api._taken import take_flag, take_model

if TYPE_CHECKING:
    from layertracer.tracing import Readout
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Readout = Any


def read_layers(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    samples: TaskLike,
    *,
    lens: LensLike = "logit",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    audit: float = 0.1,
    seed: SupportsIndex = 0,
) -> Readout:
    """The next-token distribution of every layer: the model's own tail applied to what leaves it.

    Laws: after the last layer it is the model's own distribution; a prompt's readout does not depend
    on the prompts beside it.

    Args:
        model: As for `trace`.
        samples: As the task of `trace`; answers are not needed.
        lens: "logit", the logit lens; or another lens, or several, which are read beside it: `readout.lenses` by name.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before each of them, in the chat template.
        template_arguments: What else the chat template is given, e.g. {"enable_thinking": False}.
        audit: Share of the prompts that are read again, each alone, beside one of every length; where one disagrees,
            all are read by the plain method, one prompt and one layer at a time. 0 reads nothing again.
        seed: What draws them.

    Returns:
        Log-probabilities in float32 on the CPU, in the order of the samples. They are kept whole: prompts
        × layers × vocabulary × 4 bytes, for each lens.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If an argument is not of a kind that is taken.
        TaskError: If there is no sample, or a prompt is too long.
        NonFiniteError: If the model's output is NaN for a prompt.
        OutOfMemoryError: If the result does not fit, or not even one prompt.
        SelfCheckError: If the model does not give the same twice.
        ModelError: If the model's own code raises anything else.

    Source:
        nostalgebraist (2020), "interpreting GPT: the logit lens".
    """
    from layertracer.tracing import read_layers as read

    taken = take_model(model)
    return read(
        taken,
        prompts_for(taken, samples, needs_answers=False),
        lens=lens,
        chat=take_flag("chat", chat),
        system=system,
        template_arguments=template_arguments,
        audit=audit,
        seed=checked_whole("seed", seed),
    )
