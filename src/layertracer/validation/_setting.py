"""A validation made ready: prompts, sites, and what everything measured depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layertracer._errors import SelfCheckError, TaskError
from layertracer._types import EncodedSample, Sample
from layertracer.tasks import Task, fit_task, limit_task, with_other_keys
from layertracer.tracing import TracedModel, describe_model, encode_for
from layertracer.validation._question import ValidationOptions, ValidationQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What stages measure on.

    Attributes:
        question: What is asked.
        task: The task without what the model's tokenizer does not know; None for samples.
        samples: Its prompts, those that are taken.
        encoded: The same as the model sees them.
        spec: What the prompts were made from.
        weights: Fingerprint of the model's weights before anything was measured.
        notes: What must be said of them.
    """

    question: ValidationQuestion
    task: Task | None
    samples: tuple[Sample, ...]
    encoded: tuple[EncodedSample, ...]
    spec: Mapping[str, Any]
    weights: str
    notes: tuple[str, ...]

    @property
    def model(self) -> TracedModel:
        """The model."""
        return self.question.model

    @property
    def options(self) -> ValidationOptions:
        """The rest of what is asked."""
        return self.question.options

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return self.model.anatomy.n_layers

    @property
    def causal_samples(self) -> Task | tuple[Sample, ...]:
        """The prompts for causal tracing: a task where it is one, which can lend contrasts from all of its pairs."""
        if self.task is None or self.task.recipe is None:
            return self.few
        limited = limit_task(self.task, len(self.few))
        if self.task.recipe.material.words is None:
            return limited
        return with_other_keys(limited, self.model.tokenizer, seed=self.options.seed)

    @property
    def has_demonstrations(self) -> bool:
        """Whether the prompts begin with demonstrations that can be told from what they ask."""
        recipe = None if self.task is None else self.task.recipe
        return (
            recipe is not None
            and recipe.material.samples is None
            and recipe.material.words is None
            and bool(recipe.options.n_shot)
        )

    @property
    def few(self) -> tuple[Sample, ...]:
        """Prompts on which costly stages run, the first ones."""
        return self.samples[: self.options.n_few]

    @property
    def units(self) -> tuple[int, ...] | None:
        """What would be taken anew together: sets of demonstrations; None where prompts have none of several."""
        sets = [sample.demonstration_set for sample in self.samples]
        return None if None in sets or not sets else tuple(int(one) for one in sets if one is not None)


def make_setting(question: ValidationQuestion) -> Setting:
    """The prompts that are taken, as the model sees them.

    Raises:
        TaskError: If there is no prompt, an answer is missing, or a prompt is too long.
        UsageError: If a text has no tokenizer.
    """
    model, given, options = question.model, question.task, question.options
    network = model.network
    task = given if isinstance(given, Task) else None
    if task is not None:
        task = fit_task(task, model.tokenizer, has_encoder=network.call.has_encoder)
    samples = tuple(given if task is None else task)
    taken = samples[: options.most_prompts]
    encoded = encode_for(model, taken, chat=False)
    lacking = [index for index, sample in enumerate(encoded.samples) if not sample.answer_ids]
    if lacking:
        raise TaskError(
            f"{len(lacking)} of {len(taken)} prompts have no answer (the first is prompt {lacking[0]}): a validation "
            "asks where an answer comes about. Give every prompt its answer."
        )
    notes = []
    if len(taken) < len(samples):
        notes.append(f"Of {len(samples)} prompts the first {len(taken)} were taken, as the short form does.")
    return Setting(
        question=question,
        task=task,
        samples=taken,
        encoded=encoded.samples,
        spec=encoded.spec if task is None else task.spec,
        weights=describe_model(model).fingerprint,
        notes=(*notes, *encoded.warnings),
    )


def as_asked(setting: Setting) -> dict[str, Any]:
    """What every measurement depends on, as JSON values; the rest is free to change.

    What it changes, each stage says for itself, see `stage_dependencies`.
    """
    content = repr([(one.prompt_ids, one.answer_ids, one.decoder_ids) for one in setting.encoded])
    return {
        "model": setting.model.name,
        "weights": setting.weights,
        "task": str(setting.spec.get("name", "samples")),
        "n_prompts": len(setting.samples),
        "tokens": hashlib.sha256(content.encode()).hexdigest()[:16],
        "quick": setting.options.quick,
        "seed": setting.options.seed,
    }


def refuse_changed_weights(setting: Setting) -> None:
    """Raise where the model's weights are no more those that the first stage saw.

    Raises:
        SelfCheckError: If that is so.
    """
    after = describe_model(setting.model).fingerprint
    if after != setting.weights:
        raise SelfCheckError(
            f"The weights of {setting.model.name!r} changed while it was validated (fingerprint {setting.weights}, now "
            f"{after}): the stages are of two models. Leave the model alone while it is measured, and validate it "
            "again, into another folder."
        )
