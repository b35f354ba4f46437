"""Short names that tell models apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from layertracer._errors import UsageError


def make_labels(names: Sequence[str], sources: Sequence[str | None]) -> tuple[str, ...]:
    """A short name for every model: the last part of its name; where that is not unique, more of it.

    Characters that cannot be seen are written as escapes: labels stand in messages.

    Args:
        names: Names of the models.
        sources: Names of the run folders, where the runs come from folders.

    Example:
        >>> make_labels(["Qwen/Qwen3-0.6B", "runs/a/model", "runs/b/model"], [None, None, None])
        ('Qwen3-0.6B', 'runs/a/model', 'runs/b/model')
        >>> make_labels(["smollm2", "smollm2"], ["first", "second"])
        ('smollm2 (first)', 'smollm2 (second)')
    """
    short = [re.split(r"[/\\]", name.rstrip("/\\"))[-1] or name or "model" for name in names]
    n_times = Counter(short)
    labels = [name if n_times[one] > 1 and name else one for name, one in zip(names, short, strict=True)]
    n_times = Counter(labels)
    labels = [
        f"{label} ({source})" if n_times[label] > 1 and source else label
        for label, source in zip(labels, sources, strict=True)
    ]
    labels = ["".join(char if char.isprintable() else repr(char)[1:-1] for char in label) for label in labels]
    n_times, seen = Counter(labels), Counter[str]()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(f"{label} #{seen[label]}" if n_times[label] > 1 else label)
    return tuple(unique)


def check_labels(labels: Sequence[str], n_models: int) -> tuple[str, ...]:
    """Refuse labels that do not tell the models apart.

    Raises:
        UsageError: If there is not one label a model, or two are alike.
    """
    if len(labels) != n_models or len(set(labels)) != n_models or not all(labels):
        raise UsageError(
            f"labels needs one name for each of the {n_models} runs, all different and none empty, got {list(labels)}."
        )
    return tuple(labels)
