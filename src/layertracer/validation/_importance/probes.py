"""Probes of what leaves each layer: what can be read off the stream, beside a control task of arbitrary labels.

Words that are held out are in no prompt that a probe was fitted on. The control task gives each word an arbitrary label
(Hewitt & Liang 2019): nothing of it can be known of a held-out word, so that a probe of it that does better than chance
shows a leak, and selectivity, accuracy less the control's, is what the stream says of the label. That something can be
read off does not say that the model uses it (Belinkov 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import TaskError, UsageError
from layertracer._types import Sample, TargetKind
from layertracer.evidence import Probing
from layertracer.measures import wilson
from layertracer.tasks import Task
from layertracer.tracing import TracedModel, TraceOptions, gather_last_streams
from layertracer.validation._importance.logistic import choose_ridge, fit_probes, separating_dimensions

ProbeKind = Literal["linear", "k_sparse"]
_KINDS: tuple[ProbeKind, ...] = ("linear", "k_sparse")
_LEAST_WORDS, _N_CONTROLS, _N_FOLDS = 4, 5, 3
_HELD_OUT = 0.4
"""Share of the words of each label that are held out."""


def probe_layers(  # noqa: PLR0913 - takes its settings by name
    model: TracedModel,
    samples: Task | Sequence[Sample],
    labels: Sequence[Any] | None = None,
    *,
    words: Sequence[Any] | None = None,
    kinds: Sequence[ProbeKind] = _KINDS,
    k: int = 16,
    seed: int = 0,
    target: TargetKind = "answer",
    **chat: Any,
) -> tuple[Probing, ...]:
    """Probes of the stream at the position that the answer is read from, layer by layer, the embeddings first.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: The prompts.
        labels: What is to be read off each prompt; its answer by default. Labels of fewer than four words are left out.
        words: The word that each prompt is about: prompts of one word are held out together, and have one label in the
            control task; the prompt itself by default.
        kinds: "linear" for all dimensions, "k_sparse" for the k that tell labels apart best (Gurnee et al. 2023).
        k: How many those are.
        seed: Draws the held-out words and the control's labels.
        target: As for a trace.
        **chat: How a chat is written, as for a trace.

    Raises:
        TaskError: If fewer than two labels have enough words.
        UsageError: If labels or words are not one for each prompt, or a kind or k does not exist.
    """
    options = TraceOptions(target=target, seed=seed, **chat)
    given: Mapping[str, Sequence[Any] | None] = {"labels": labels, "words": words}
    streams, answers, prompts = gather_last_streams(model, samples, options)
    for name, values in given.items():
        if values is not None and len(values) != len(streams):
            raise UsageError(
                f"{name} must hold one for each prompt, got {len(values)} for {len(streams)} prompts. Give them in the "
                "prompts' order."
            )
    return probe_streams(
        streams,
        answers if labels is None else labels,
        words=prompts if words is None else words,
        kinds=kinds,
        k=k,
        seed=seed,
    )


def probe_streams(
    streams: Float[np.ndarray, "prompt row dimension"],
    labels: Sequence[Any],
    *,
    words: Sequence[Any],
    kinds: Sequence[ProbeKind] = _KINDS,
    k: int = 16,
    seed: int = 0,
) -> tuple[Probing, ...]:
    """Probes of given vectors; row 0 counts as layer −1.

    Laws: the control's accuracy is chance, on average; labels that are nowhere in the vectors have a selectivity of
    about 0.

    Args:
        streams: The vectors.
        labels: What is to be read off them.
        words: The word of each prompt.
        kinds: See `probe_layers`.
        k: Likewise.
        seed: Likewise.
    """
    n_dimensions = streams.shape[2]
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown or not k >= 1:
        raise UsageError(
            f"kinds must be of {', '.join(map(repr, _KINDS))} and k at least 1, got {tuple(kinds)} and k={k}."
        )
    question = _Question.of(labels, words, seed=seed)
    return tuple(
        question.probe(streams[:, row], layer=row - 1, kind=kind, k=min(k, n_dimensions) if kind == "k_sparse" else 0)
        for kind in kinds
        for row in range(streams.shape[1])
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Question:
    """What is to be read off, and which words are held out.

    Attributes:
        rows: The prompts that are used.
        labels: Label of each, from 0.
        words: Word of each, from 0.
        is_test: Whether it is held out.
        folds: In which part of the others it is, for choosing penalties.
        controls: Arbitrary labels instead, [draw, prompt].
    """

    rows: Int[np.ndarray, " prompt"]
    labels: Int[np.ndarray, " prompt"]
    words: Int[np.ndarray, " prompt"]
    is_test: np.ndarray  # bool [prompt]
    folds: Int[np.ndarray, " prompt"]
    controls: Int[np.ndarray, "draw prompt"]

    @classmethod
    def of(cls, labels: Sequence[Any], words: Sequence[Any], *, seed: int) -> _Question:
        """Labels with enough words, part of which are drawn to be held out."""
        kept = _with_enough_words(labels, words)
        chosen = [labels[row] for row in kept]
        names = {label: number for number, label in enumerate(dict.fromkeys(chosen))}
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words[row] for row in kept))}
        own = np.array([names[label] for label in chosen])
        of_word = np.array([numbers[words[row]] for row in kept])
        generator = np.random.default_rng([seed, len(kept), 7])
        first = np.array([int(np.flatnonzero(of_word == word)[0]) for word in range(len(numbers))])
        word_label = own[first]
        held = np.zeros(len(numbers), dtype=bool)
        folds = np.zeros(len(numbers), dtype=np.int64)
        for label in range(len(names)):
            mixed = generator.permutation(np.flatnonzero(word_label == label))
            n_held = max(1, round(_HELD_OUT * len(mixed)))
            held[mixed[:n_held]] = True
            folds[mixed] = np.arange(len(mixed)) % _N_FOLDS
        controls = np.stack([generator.choice(word_label, len(numbers))[of_word] for _ in range(_N_CONTROLS)])
        return cls(
            rows=np.array(kept),
            labels=own,
            words=of_word,
            is_test=held[of_word],
            folds=folds[of_word],
            controls=controls,
        )

    def probe(self, streams: Float[np.ndarray, "prompt dimension"], *, layer: int, kind: str, k: int) -> Probing:
        """The probe of one layer, and its controls."""
        rows = np.asarray(streams[self.rows], dtype=np.float64)
        accuracy, control = self._accuracies(rows, k)
        n_words = len(np.unique(self.words[self.is_test]))
        usual = np.bincount(self.labels[~self.is_test]).argmax()
        return Probing(
            layer=layer,
            kind=kind,
            k=k,
            accuracy=accuracy,
            interval=wilson(round(accuracy * n_words), n_words),  # words, not prompts, were drawn
            control_accuracy=control,
            selectivity=accuracy - control,
            chance=float((self.labels[self.is_test] == usual).mean()),
            n_test=int(self.is_test.sum()),
        )

    def _accuracies(self, rows: Float[np.ndarray, "prompt dimension"], k: int) -> tuple[float, float]:
        """Share of the held-out prompts whose label is read rightly, and the mean of it in the controls.

        The controls' probes have the penalty of the label's own.
        """
        own, n_labels = ~self.is_test, int(self.labels.max()) + 1
        chosen = rows[:, separating_dimensions(rows[own], self.labels[own], k)] if k else rows
        ridge = choose_ridge(chosen[own], self.labels[own], self.folds[own], n_labels=n_labels)
        tasks = [self.labels[:, None], *(one[:, None] for one in self.controls)] if k else [self._all_labels]
        right: list[float] = []
        for labels in tasks:
            if k and right:
                chosen = rows[:, separating_dimensions(rows[own], labels[own, 0], k)]
            ridges = [ridge] * labels.shape[1]
            probes = fit_probes(chosen[own], labels[own], n_labels=n_labels, ridges=ridges)
            right += (probes.predict(chosen[self.is_test]) == labels[self.is_test]).mean(axis=0).tolist()
        return right[0], float(np.mean(right[1:]))

    @property
    def _all_labels(self) -> Int[np.ndarray, "prompt task"]:
        """The label, and the controls' labels."""
        return np.stack([self.labels, *self.controls], axis=1)


def _with_enough_words(labels: Sequence[Any], words: Sequence[Any]) -> list[int]:
    """The prompts whose labels have enough words.

    Raises:
        TaskError: If there are not two such labels.
    """
    by_label: dict[Any, set[Any]] = {}
    for label, word in zip(labels, words, strict=True):
        by_label.setdefault(label, set()).add(word)
    kept = [row for row, label in enumerate(labels) if len(by_label[label]) >= _LEAST_WORDS]
    n_kept = len({labels[row] for row in kept})
    if n_kept < 2:
        raise TaskError(
            f"Probes need at least two labels of {_LEAST_WORDS} words each, got {len(by_label)} labels, of which "
            f"{n_kept} have so many. Give labels that prompts have in common (labels=[...]), or more prompts."
        )
    return kept
