"""What each section of a report on advice says, and what holds of all advice."""

from __future__ import annotations

from collections.abc import Iterator

from layertracer._types.substitutes import Window
from layertracer.advice import AdviceRecord, Divisions, Gates
from layertracer.reports._advice.tables import show_knee
from layertracer.reports._values.facts import facts_of, facts_of_model
from layertracer.reports._values.numbers import show_count, show_duration, show_number
from layertracer.reports._values.parts import Fact
from layertracer.reports._values.visible import plain

PLACEMENTS = (
    "A row for each placement: filled cells keep their mixer, pale ones have the substitute, dotted ones cannot be "
    "substituted and stay as they are. Below each advised one, those that nobody searched for."
)
RANDOM = (
    "Every random placement of that size is a dot (their height means nothing), and what is named is marked among "
    "them. All of a panel were measured on the same held-out rows; further left costs less. The objective is the KL "
    "divergence from the full model on text plus its mean over the tasks."
)
NO_RANDOM = "No random placements were measured beside these: nothing says how sure the advice is."
SINGLES = (
    "Both directions, on the rows of the search: what the model loses where one layer alone is substituted, and what "
    "is saved where it alone is kept and all others are substituted. The two can disagree, since what one layer does "
    "others may do as well."
)
REGION_BARS = "In the figure every second region is shaded; a dark bar is the interval of where a region begins."
PAIRS = (
    "Above 0: the two stand in for one another, and losing both costs more than losing each. Below 0: they lose the "
    "same thing. Measured on the rows of the search."
)
_UNTRAINED = (
    "A substitute stands in for a trained mixer, and is none. How a hybrid of this placement does is known when it is "
    "trained; docs/design.md says how far such scores foretold it."
)
LIMITS_OF_ALL = (
    _UNTRAINED,
    "The unit is the layer. What carries a task may be single heads, and a layer is kept or substituted as a whole.",
    "Numbers are of the rows that were given: other texts, tasks and lengths may ask for other layers.",
    "Intervals are each of one number, over rows and random placements, and not adjusted for being several.",
)


def reads(record: AdviceRecord) -> str:
    """What was read on what: for the lead of the evidence."""
    found = record.evaluations
    audit = "Nothing was measured again."
    if found.audit_cells:
        worst = show_number(found.audit_worst_nats, digits=2)
        audit = f"{found.audit_cells:,} numbers were measured again the plain way: they differ by {worst} nats at most."
    return (
        f"{show_count(found.n_evaluations, 'placement')} measured in {show_duration(found.cpu_s)} of processor time. "
        f"No row is in two of the columns that search and judge. {audit}"
    )


def limits(record: AdviceRecord) -> Iterator[str]:
    """What this advice does not say."""
    if isinstance(record.substitute, Window):
        yield (
            f"Only positions from {record.substitute.n_seen} on (counted from 0) are read: before them the window "
            "changes nothing."
        )
    yield from LIMITS_OF_ALL


def next_steps(record: AdviceRecord) -> Iterator[str]:
    """What makes the advice surer, or puts it to use."""
    compared = [one for one in record.placements.values() if one.percentile is not None]
    if any(one.verdict == "undecided" for one in compared):
        yield "Where it is undecided, measure on more rows: --held-out-rows and --compared-rows."
    elif len(compared) < len(record.placements):
        yield "Compare with random placements to see how sure this is: --random 200."
    if any(snippet is not None for snippet in record.snippets.values()):
        yield "Paste the configuration, train the hybrid, and compare it with one that keeps evenly spaced layers."


def singles_lead(record: AdviceRecord) -> str:
    """How to read single layers, and whether the directions agree."""
    agreement = record.singles.rank_agreement
    said = "" if agreement != agreement else f" Their rank correlation is {show_number(agreement, digits=2)}."  # noqa: PLR0124
    joint = "" if record.singles.joint_js is None else (
        " Last, one trace of the search's prompts: how far the output moves when a layer's mixer output, and its "
        "state, are masked, each divided by its largest and added."
    )  # fmt: skip
    return SINGLES + said + joint


def ratio_lead(record: AdviceRecord) -> str:
    """How to read the curve over the number kept."""
    note = "" if record.ratio is None else plain(record.ratio.note, 400)
    return (
        "Held-out cost against the number of layers that keep their mixer; shaded, intervals. A diamond: the advised "
        f"placements. {show_knee(record)} {note}"
    ).strip()


def divisions_lead(divisions: Divisions) -> str:
    """How to read the regions."""
    if len(divisions.regions) == 1:
        found = "No boundary stands out: the layers are one region."
    else:
        found = f"{len(divisions.regions)} regions, by change points."
    chance = "" if divisions.p != divisions.p else (
        f" Of shuffled layers, {show_number(100 * divisions.p, digits=2)} % are divided as well or better."
    )  # fmt: skip
    return f"{found}{chance} {plain(divisions.note, 400)}".strip()


GATES = (
    "In the table: after which layer a prompt leaves on average, how many of the answers stay, and what is saved of "
    "the layers' arithmetic, and of all when the readouts on the way are paid for."
)


def gates_lead(gates: Gates) -> str:
    """What gates would gain, first."""
    return plain(gates.note, 3000)


def model_facts(record: AdviceRecord) -> tuple[Fact, ...]:
    """The model, and where the advice comes from."""
    return facts_of_model(record.model, record.provenance)


def asked_facts(record: AdviceRecord) -> tuple[Fact, ...]:
    """What was asked."""
    facts = [Fact("Substitute", record.substitute.describe()), Fact("Search", plain(record.search, 60))]
    return (*facts, *facts_of(record.spec))
