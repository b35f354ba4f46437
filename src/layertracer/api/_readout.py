"""The logit lens of whatever prompts a user has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from layertracer.api._asked import ModelLike, TaskLike, prompts_for
from layertracer.api._taken import take_choice, take_flag, take_model

if TYPE_CHECKING:
    from layertracer.tracing import Readout
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Readout = Any


def read_layers(
    model: ModelLike, samples: TaskLike, *, lens: Literal["logit"] = "logit", chat: bool = False
) -> Readout:
    """The next-token distribution of every layer: the model's own tail applied to what leaves it.

    Laws: after the last layer it is the model's own distribution; a prompt's readout does not depend
    on the prompts beside it.

    Args:
        model: As for `trace`.
        samples: As the task of `trace`; answers are not needed.
        lens: "logit", the logit lens.
        chat: Whether prompts are put into the tokenizer's chat template.

    Returns:
        Log-probabilities in float32 on the CPU, in the order of the samples. They are kept whole: prompts
        × layers × vocabulary × 4 bytes.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If an argument is not of a kind that is taken.
        TaskError: If there is no sample, or a prompt is too long.
        NonFiniteError: If the model's output is NaN for a prompt.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.

    Source:
        nostalgebraist (2020), "interpreting GPT: the logit lens".
    """
    from layertracer.tracing import read_layers as read

    take_choice("lens", lens, ("logit",))
    taken = take_model(model)
    return read(taken, prompts_for(taken, samples, needs_answers=False), lens=lens, chat=take_flag("chat", chat))
