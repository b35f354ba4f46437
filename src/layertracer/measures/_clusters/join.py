"""Prompts that share anything that would be other another time are of one cluster."""

from __future__ import annotations

from collections.abc import Sequence


def join_clusters(*labels: Sequence[int | None]) -> tuple[int | None, ...]:
    """Cluster of every prompt, where those that share a label, of whatever kind, are of one.

    Sets of demonstrations that each are written in one template give the templates as clusters. Where sets and
    templates are crossed, all prompts are one cluster: an interval that resampled either of the two alone would leave
    out what the other does.

    Laws: prompts that share a label share a cluster; numbers begin at 0 and rise with the first prompt of each; one
    kind of label gives its groups; a prompt without any label has None.

    Args:
        labels: For each kind (set of demonstrations, template), the label of every prompt; None where it has none.

    Example:
        >>> join_clusters([0, 1, 2, 3], [0, 1, 0, 1])
        (0, 1, 0, 1)
        >>> join_clusters([0, 0, 1, 1], [0, 1, 0, 1])
        (0, 0, 0, 0)
    """
    n = len(labels[0])
    cluster = list(range(n))
    has_changed = True
    while has_changed:
        has_changed = False
        for kind in labels:
            least: dict[int, int] = {}
            for label, own in zip(kind, cluster, strict=True):
                if label is not None:
                    least[label] = min(own, least.get(label, own))
            joined = [own if label is None else least[label] for label, own in zip(kind, cluster, strict=True)]
            has_changed, cluster = has_changed or joined != cluster, joined
    names = {own: number for number, own in enumerate(dict.fromkeys(cluster))}
    has_any = [any(label is not None for label in prompt) for prompt in zip(*labels, strict=True)]
    return tuple(names[own] if known else None for own, known in zip(cluster, has_any, strict=True))
