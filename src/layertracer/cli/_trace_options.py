"""Options that say what a trace is asked, and what they make: shared by the commands that trace and that plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from layertracer.cli._choices import ALL_SITES, FILLS, PERTURBATIONS, POSITIONS, SCHEMES, SITES, TARGET_TOKENS, TARGETS
from layertracer.cli._console import say_aside
from layertracer.cli._options import add_options, limit_option, option
from layertracer.cli._progress import ProgressDisplay

if TYPE_CHECKING:
    from layertracer._types import Perturbation, Site
    from layertracer.tasks import Task
else:  # under test, annotations are looked up when a function is called
    Perturbation = Site = Task = object

_APPLIES_TO = {
    "mask_fraction": ("mask",),
    "scheme": ("mask",),
    "fill": ("mask",),
    "noise_scale": ("noise",),
    "draws": ("mask", "noise"),
    "sites": ("mask", "noise"),
}
"""Options that only some perturbations take."""

question_options: Callable[[Any], Any] = add_options(
    option(
        "--task",
        metavar="NAME|FILE",
        default="antonym",
        help="Built-in task (see `layertracer tasks`), file, or hf:name:split.",
    ),
    limit_option(None, "Largest number of prompts, or all.  [default: 32 of a built-in task, all of your own]"),
)

target_options: Callable[[Any], Any] = add_options(
    option(
        "--target",
        type=click.Choice(TARGETS),
        default="answer",
        help="Token that is followed: the task's answer, or the model's own top token.",
    ),
    option(
        "--target-tokens",
        type=click.Choice(TARGET_TOKENS),
        default="first",
        help="Follow the answer's first token, or the product over all of them.",
    ),
)

perturbation_options: Callable[[Any], Any] = add_options(
    option("--perturbation", type=click.Choice(PERTURBATIONS), default="mask", help="What is done to each layer."),
    option(
        "--site",
        "sites",
        type=click.Choice((*SITES, ALL_SITES)),
        multiple=True,
        help="Where inside the layer; several times for several sites in one trace, or all that the model has.  "
        "[default: mixer_output; block_output where a model has no mixer of its own]",
    ),
    option(
        "--mask-fraction",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.2,
        help="Share of the dimensions masked in one draw, in (0, 1].",
    ),
    option("--draws", type=click.IntRange(min=1), default=5, help="Random repetitions for each layer."),
    option(
        "--scheme",
        type=click.Choice(SCHEMES),
        default="partition",
        help="Draws that split the dimensions between them, or that each pick their own.",
    ),
    option("--fill", type=click.Choice(FILLS), default="zero", help="What masked dimensions become."),
    option(
        "--positions",
        type=click.Choice(POSITIONS),
        default="all",
        help="Perturb at every position of the prompt, or at its last one alone, which is far cheaper.",
    ),
    option(
        "--noise-scale",
        type=click.FloatRange(min=0),
        default=0.1,
        help="Standard deviation of the noise, relative to the stream's root mean square; --perturbation noise only.",
    ),
)

effort_options: Callable[[Any], Any] = add_options(
    option(
        "--share-prefix/--no-share-prefix",
        default=None,
        help="Read what prompts have in common once, where that is proved right.  [default: where it saves time]",
    ),
    option(
        "--audit",
        type=click.FloatRange(0, 1),
        default=0.1,
        help="Share of the trace's arithmetic in which some of its numbers are measured again, one prompt and one "
        "forward at a time, in [0, 1].",
    ),
    option("--no-audit", is_flag=True, help="Measure nothing again; the result says so."),
    option(
        "--memory",
        metavar="SIZE",
        default=None,
        help="Memory to take beyond the weights, e.g. 8GiB.  [default: most of what is free]",
    ),
)


def load_task_from(name: str, settings: Mapping[str, Any], *, limit: int | None) -> Task:
    """The task that the options describe."""
    from layertracer.tasks import load_task

    template = settings["template"]
    return load_task(
        name,
        n_shot=settings["shots"],
        demonstration_sets=settings["demonstration_sets"],
        limit=limit,
        seed=settings["seed"],
        template=None if template is None else template.replace("\\n", "\n"),
        prompt_field=settings["prompt_field"],
        answer_field=settings["answer_field"],
        answer_prefix=settings["answer_prefix"],
        header=settings["header"],
        n_keys=settings["n_keys"],
        min_distance=settings["min_distance"],
    )


def load_asked_task(context: click.Context, settings: Mapping[str, Any]) -> Task:
    """The task that is asked: of a built-in one 32 prompts where nobody says how many, of a user's own all.

    A trace that stops by itself (`--until`) may read all of either.
    """
    from layertracer.tasks import default_limit

    name, limit = settings["task"], settings["limit"]
    if context.get_parameter_source("limit") is ParameterSource.DEFAULT and not settings.get("until"):
        limit = default_limit(name)
    return load_task_from(name, settings, limit=limit)


def say_what_was_read(task: Task, display: ProgressDisplay) -> None:
    """Say which fields were read, how many rows of how many, and what was left out."""
    for note in task.notes:
        display.note(f"Task: {note}")


def make_perturbations(settings: Mapping[str, Any]) -> list[Perturbation]:
    """The perturbations that the options describe, one for each site.

    Of all sites those at which the options have no meaning are left out, and that is said.
    """
    from layertracer import Skip
    from layertracer._types import DEFAULT_SITE
    from layertracer.api import sites_there_are

    if settings["perturbation"] == "skip":
        return [Skip(positions=settings["positions"])]
    asked = tuple(dict.fromkeys(settings["sites"]))
    if ALL_SITES not in asked:
        return [_perturb_at(site, settings) for site in asked or (DEFAULT_SITE,)]
    unfit = {site: _why_unfit(site, settings) for site in sites_there_are() if site not in asked}
    for site, reason in unfit.items():
        if reason is not None:
            say_aside(f"Note: the site {str(site)!r} is left out: {reason} has no meaning there.")
    return [_perturb_at(site, settings) for site in sites_there_are() if unfit.get(site) is None]


def _why_unfit(site: Site, settings: Mapping[str, Any]) -> str | None:
    """The option that has no meaning at a site; None where all have one."""
    from layertracer._types import SITES

    facts = SITES[site]
    if settings["positions"] not in facts.positions:
        return f"--positions {settings['positions']}"
    if settings["perturbation"] == "mask" and settings["fill"] not in facts.fills:
        return f"--fill {settings['fill']}"
    return None


def _perturb_at(site: Site, settings: Mapping[str, Any]) -> Perturbation:
    from layertracer import Mask, Noise

    draws, seed = settings["draws"], settings["seed"]
    if settings["perturbation"] == "noise":
        scale = settings["noise_scale"]
        return Noise(scale=scale, site=site, draws=draws, positions=settings["positions"], seed=seed)
    return Mask(
        fraction=settings["mask_fraction"],
        site=site,
        draws=draws,
        scheme=settings["scheme"],
        fill=settings["fill"],
        positions=settings["positions"],
        seed=seed,
    )


def trace_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a trace and its plan take, as they call it, beside model, task and perturbation."""
    names = ("target", "target_tokens", "chat", "system", "template_arguments", "share_prefix", "memory")
    audit = 0.0 if settings["no_audit"] else float(settings["audit"])
    return {name: settings[name] for name in names} | {"audit": audit}


def refuse_chat_options(settings: Mapping[str, Any]) -> None:
    """What is for a chat template is a mistake without one."""
    given = {"--system": settings["system"] is not None, "--template-argument": bool(settings["template_arguments"])}
    for flag, is_given in given.items():
        if is_given and not settings["chat"]:
            raise click.UsageError(f"{flag} has no meaning without --chat: it is for the chat template. Add --chat.")


def refuse_unused_options(context: click.Context, settings: Mapping[str, Any]) -> None:
    """An option that would be ignored is a mistake."""
    refuse_chat_options(settings)
    kind = settings["perturbation"]
    for name, kinds in _APPLIES_TO.items():
        if kind not in kinds and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = f"--{name.replace('_', '-')}" if name != "sites" else "--site"
            raise click.UsageError(
                f"{flag} has no meaning with --perturbation {kind}: it is for {' and '.join(kinds)}."
            )
