"""The sites of a layer, as far as they are known without a model: names, words, and what can be done there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from layertracer._types.registries import Registration

Site: TypeAlias = str
"""The name of a site; see `SITES`."""
Fill = Literal["zero", "mean", "resample"]
Positions = Literal["all", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What is known of a site without a model.

    Attributes:
        name: Its name, as it is asked for and stored.
        words: Its name for people, as in "20 % of the mixer output".
        part: What a layer without the site has not got, as in "no mixer".
        meaning: What a proof at load shows of it; empty where it needs none.
        has_dimensions: Whether dimensions of the stream stand there, at every position of a prompt.
        fills: What masked dimensions may become there.
        positions: Which positions may be perturbed there.
        why_not_filled: Why not with anything else, and what to do.
        why_not_there: Why not at other positions, and what to do.
    """

    name: str
    words: str
    part: str
    meaning: str = ""
    has_dimensions: bool = True
    fills: tuple[Fill, ...] = ("zero", "mean", "resample")
    positions: tuple[Positions, ...] = ("all", "last")
    why_not_filled: str = ""
    why_not_there: str = ""


SITES: dict[str, SiteFacts] = {}
"""All sites by name, in the order in which they are listed."""


def register_site_facts(facts: SiteFacts) -> Registration[SiteFacts]:
    """Make a site known by its name; undone by the registration, or at the end of its block."""
    return Registration(SITES, facts.name, facts)


register_site_facts(SiteFacts(name="block_output", words="block output", part="block output"))
register_site_facts(
    SiteFacts(
        name="mixer_output",
        words="mixer output",
        part="mixer",
        meaning="what is masked as the mixer's output is what it adds to the stream",
    )
)
register_site_facts(
    SiteFacts(
        name="mlp_output",
        words="MLP output",
        part="MLP",
        meaning="what is masked as the MLP's output is what it adds to the stream",
    )
)
register_site_facts(
    SiteFacts(
        name="state",
        words="state (the layer's memory)",
        part="memory of its own",
        has_dimensions=False,
        fills=("zero",),
        positions=("all",),
        why_not_filled="keys at different positions, and the states of different prompts, are not alike enough to be "
        "exchanged or averaged. Use fill='zero'.",
        why_not_there="the state is what a layer remembers of the tokens before the prompt's last one. Leave positions "
        "out, or perturb the last position at another site, e.g. site='mixer_output'.",
    )
)


class UnaskedSite(str):
    """The default site: a name like any other, which remembers that nobody asked for it.

    So a model without a mixer can be perturbed elsewhere instead of being refused. It stays what it is when a
    specification is copied with other settings, and is written like the name that it is.
    """

    __slots__ = ()


DEFAULT_SITE: Site = UnaskedSite("mixer_output")
"""Where is perturbed when nobody says where: what the mixer adds, the paper's "attention output"."""

FALLBACK_SITE: Site = "block_output"
"""The site that every model has; taken where nobody asked for one and the default is not to be had."""


def sites_there_are() -> tuple[Site, ...]:
    """All sites, the usual one first, none of them asked for by name: one that a model lacks is left out of them."""
    others = (site for site in SITES if site != DEFAULT_SITE)
    return tuple(UnaskedSite(site) for site in (DEFAULT_SITE, *others))
