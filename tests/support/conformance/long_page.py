"""What docs/architectures.md says of long prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.support.conformance.cases import REFUSED, VARIANTS
from tests.support.conformance.long_examination import LongVerdict
from tests.support.conformance.page_parts import name_of, table

_COLUMNS = {
    "readouts": "readout, nats",
    "divergences": "JS",
    "shared prefixes": "JS behind shared prefixes",
    "mixer_output": "mixer",
    "mlp_output": "MLP",
    "mean fill": "mean fill",
    "last position": "last position",
}
_AUDITED = "Everything was measured anew"
"""What a trace says first whose audit found something."""
_SAYS = (
    "Largest differences from plain hooks; in bits where no unit stands. Under *prefixes* stands how many of them were "
    "read once for several prompts. Fills and the last position alone are tried where the stream is one row of tokens; "
    "what the mixer or the MLP adds, where the source has a module whose output it is."
)


def long_counts(longs: Iterable[LongVerdict]) -> dict[str, str]:
    """Numbers of families, by what became of them."""
    families = [verdict for verdict in longs if verdict.case.label not in {case.label for case in VARIANTS}]
    traced = [verdict for verdict in families if not verdict.is_refused and not verdict.faults]
    return {
        "right with long prompts too": str(len(traced)),
        "of these, some of whose traces are refused with the reason": str(sum(bool(one.refusals) for one in traced)),
        "of these, some of whose traces went on by a slower way and say so": str(
            sum(any(text.startswith(_AUDITED) for text in one.says) for one in traced)
        ),
        "silently wrong with long prompts": str(sum(bool(verdict.faults) for verdict in families)),
    }


def long_section(longs: Sequence[LongVerdict]) -> list[str]:
    """The section's lines."""
    traced = [verdict for verdict in longs if not verdict.is_refused]
    lines = ["## Long prompts", "", _SAYS, ""]
    lines += table(" | ".join(["family", "prefixes", *_COLUMNS.values()]), [_row(verdict) for verdict in traced])
    return [*lines, "", *_list("Refused, and why:", [(one, one.refusals) for one in traced]), *_said(traced)]


def _said(traced: Iterable[LongVerdict]) -> list[str]:
    return _list("What the traces say themselves:", [(verdict, verdict.says) for verdict in traced])


def _list(title: str, texts: Iterable[tuple[LongVerdict, Sequence[str]]]) -> list[str]:
    rows = [(_name(verdict), text) for verdict, own in texts if verdict.case.label not in REFUSED for text in own]
    return [title, "", *table("family | what", rows), ""] if rows else []


def _row(verdict: LongVerdict) -> tuple[str, ...]:
    errors = [verdict.errors.get(name) for name in _COLUMNS]
    told = [f"{error:.0e}" if error is not None else "–" for error in errors]
    return _name(verdict), str(verdict.n_prefixes or "–"), *told


def _name(verdict: LongVerdict) -> str:
    return ", ".join([name_of(verdict.case), *(f"`{name}={value}`" for name, value in verdict.case.settings.items())])
