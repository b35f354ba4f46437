"""Which numbers of a record are held to limits that somebody thought of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from layertracer.runs import RecordRules, Rule, Whole


class _Asked(Mapping[str, Rule]):
    """Limits that remember which ones were asked for."""

    def __init__(self) -> None:
        self.places: set[str] = set()

    def get(self, place: str, default: object = None) -> Rule:  # type: ignore[override]
        """A limit, whatever the place."""
        del default
        self.places.add(place)
        return Whole()

    def __getitem__(self, place: str) -> Rule:
        return self.get(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def numbers_of(kind: type, others: Mapping[str, Rule]) -> set[str]:
    """The places of all numbers of a record, and of what it holds: "Interval.low"; not those that have other rules."""
    limits = _Asked()
    RecordRules(limits, others).of(kind)
    return limits.places
