"""Evidence asked for: is a task particle real, is a vulnerable layer real."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from layertracer._errors import UsageError
from layertracer._types import checked_whole
from layertracer.api._asked import ModelLike, ProgressLike, TaskLike, prompts_for
from layertracer.api._asked_rows import text_for
from layertracer.api._claimed import claimed_folder
from layertracer.api._evidence import Evidence
from layertracer.api._lenses import LENS_KINDS
from layertracer.api._progress import telling_progress
from layertracer.api._taken import refused, take_choice, take_flag, take_model, take_path
from layertracer.evidence import ValidationPlan
from layertracer.runs import EVIDENCE, expand_home

if TYPE_CHECKING:
    from layertracer.tracing import TracedModel
    from layertracer.validation import ValidationQuestion
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    TracedModel = ValidationQuestion = Any

_UNIT = "forward"
_CAUSAL = ("swap", "noise")
_CONTROLS = ("arbitrary_labels", "shuffled_demonstrations", "reinitialised_model", "random_directions")


def validate(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    task: TaskLike,
    *,
    quick: bool = False,
    text: Any = None,
    lenses: Any = (),
    causal: str | bool | None = "swap",
    controls: Any = None,
    fractions: Any = None,
    seed: SupportsIndex = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressLike = None,
    on_plan: Callable[[ValidationPlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> Evidence:
    """Whether the task particle and the vulnerable layer of a trace are real: a trace put to the test.

    Criteria and lenses are held against one another and against causal tracing, JS at every site against other measures
    of a layer's importance, and everything against controls, other doses, running text, other demonstrations and
    templates. `evidence.verdicts` answers each question in a sentence with its numbers; "undecided" is an answer, and
    what cannot be measured says why.

    Laws: the same inputs and seed give the same evidence; what is found does not depend on `out`, nor on what an
    earlier call left there; weights, gradients and their flags stay (a module is put into evaluation mode).

    Args:
        model: As for `trace`.
        task: As for `trace`; every prompt with its answer.
        quick: The short form: 16 prompts, the logit lens, skips and zero-ablations, two controls, three doses.
        text: Running text: a file or a text, a list of texts, rows of token ids; None for what the model writes itself
            (in the short form for none), False for none.
        lenses: Lenses beside the logit lens: kinds to fit ("tuned", "jacobian", "linear"), fitted lenses, or several of
            these. Not in the short form.
        causal: How causal tracing corrupts: "swap" (another prompt's subject) or "noise"; False for no causal tracing.
        controls: Names of the controls; None for all of them, two in the short form.
        fractions: Shares of the dimensions to mask; None for 1 % to 80 %, three of them in the short form.
        seed: Seed of masks, random targets, controls and resamples.
        audit: Share in which numbers are measured again the plain way.
        memory: Memory that the passes may take, e.g. "4GiB"; None for most of what is free.
        out: Folder in which finished stages are kept as they come, and the evidence in the end: the same call goes on
            after Ctrl-C. None for nowhere.
        overwrite: Whether finished evidence that lies in `out` is replaced.
        progress: True for a bar, or a function of one object with `done`, `total` and `stage`.
        on_plan: Called once with the plan, before the first stage.
        command: The command line, for the provenance.

    Raises:
        UsageError: If an argument is not of a kind that is taken.
        UnknownNameError: If there is no such lens, control or corruption.
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        RunError: If `out` holds the stages of another validation, something else, or the disk refuses.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.
        KeyboardInterrupt: On Ctrl-C; what was finished is its `record`, once there is something, and lies in `out`.
    """
    if on_plan is not None and not callable(on_plan):
        raise refused("on_plan", on_plan, "Give a function of one argument, the plan.")
    asked: dict[str, Any] = {"quick": quick, "lenses": lenses, "causal": causal, "controls": controls}
    asked |= {"fractions": fractions, "seed": seed, "audit": audit, "memory": memory}
    question = _take_question(take_model(model), task, text, **asked)
    telling: dict[str, Any] = {"progress": progress, "on_plan": on_plan, "command": command}
    if out is None:
        return _run(question, None, **telling)
    with claimed_folder(out, overwrite=overwrite, kind=EVIDENCE) as folder:
        evidence = _run(question, folder, **telling)
        evidence.save(folder, overwrite=True)
    return evidence


def plan_validation(  # noqa: PLR0913 - likewise
    model: ModelLike,
    task: TaskLike,
    *,
    quick: bool = False,
    text: Any = None,
    lenses: Any = (),
    causal: str | bool | None = "swap",
    controls: Any = None,
    fractions: Any = None,
    seed: SupportsIndex = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    out: str | Path | None = None,
) -> ValidationPlan:
    """What `validate` would do and take: stages, forwards, seconds. All arguments are those of `validate`.

    One forward is timed, and nothing else is run.

    Raises:
        LayerTracerError: As `validate`.
    """
    from layertracer.validation import plan_validation as plan

    asked: dict[str, Any] = {"quick": quick, "lenses": lenses, "causal": causal, "controls": controls}
    asked |= {"fractions": fractions, "seed": seed, "audit": audit, "memory": memory}
    question = _take_question(take_model(model), task, text, **asked)
    return plan(question, folder=None if out is None else expand_home(take_path("out", out)))


def _take_question(model: TracedModel, task: TaskLike, text: Any, **asked: Any) -> ValidationQuestion:
    """What is asked, in the kinds of things that a validation takes.

    Raises:
        LayerTracerError: If something is not of a kind that is taken.
    """
    from layertracer.validation import ValidationOptions, ValidationQuestion

    seed = checked_whole("seed", asked["seed"])
    if seed < 0:
        raise UsageError(f"seed must be at least 0, got {seed}. Give any whole number from 0 on.")
    options = ValidationOptions(
        quick=take_flag("quick", asked["quick"]),
        lenses=_take_lenses(asked["lenses"]),
        causal=_take_causal(asked["causal"]),
        controls=_take_controls(asked["controls"]),
        fractions=_take_fractions(asked["fractions"]),
        seed=seed,
        audit=asked["audit"],
        memory=asked["memory"],
    )
    if options.quick and options.lenses:
        raise UsageError("The short form reads the logit lens alone, and lenses= was given. Leave out one of the two.")
    return ValidationQuestion(
        model=model,
        task=prompts_for(model, task, needs_answers=True),
        text=None if text is False else text_for(model, "text", text),
        with_text=text is not False and not (options.quick and text is None),
        options=options,
    )


def _take_causal(given: object) -> Any:
    """How causal tracing corrupts; None for no causal tracing."""
    if given is None or given is False:
        return None
    return "swap" if given is True else take_choice("causal", given, _CAUSAL)


def _take_lenses(given: object) -> tuple[Any, ...]:
    """Kinds of lenses to fit, and lenses.

    Raises:
        UsageError: If two have one name.
    """
    from layertracer.tracing import take_lenses

    if given is None or given == "logit":
        return ()
    several = list(given) if isinstance(given, list | tuple) else [given]
    taken: list[Any] = []
    for one in several:
        if isinstance(one, str):
            taken += [] if one == "logit" else [take_choice("lenses", one, LENS_KINDS)]
        else:
            taken += take_lenses(one)
    names = [one if isinstance(one, str) else one.name for one in taken]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"lenses= has two of the name {twice[0]!r}. Give each once, or another name to one of them.")
    return tuple(taken)


def _take_controls(given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Iterable):
        raise refused("controls", given, f"Give names: {', '.join(map(repr, _CONTROLS))}.")
    return tuple(dict.fromkeys(take_choice("controls", one, _CONTROLS) for one in given))


def _take_fractions(given: object) -> tuple[float, ...] | None:
    """Shares of the dimensions to mask, ascending, that of the reference among them.

    Raises:
        UsageError: If one is no share.
    """
    from layertracer.validation import REFERENCE

    if given is None:
        return None
    hint = "Give shares of the dimensions, e.g. fractions=(0.05, 0.2, 0.8)."
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refused("fractions", given, hint)
    shares = []
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int | float) or not 0.0 < one < 1.0:
            raise refused("fractions", one, f"{hint} Each lies between 0 and 1.")
        shares.append(float(one))
    return tuple(sorted({*shares, REFERENCE}))


def _run(question: ValidationQuestion, folder: Path | None, *, progress: ProgressLike, **asked: Any) -> Evidence:
    from layertracer.validation import ValidationInterrupted, run_validation

    try:
        with telling_progress(progress, f"Validating {question.model.name}", unit=_UNIT) as advance:
            return Evidence.from_record(run_validation(question, folder=folder, on_progress=advance, **asked))
    except BaseException as stop:
        if folder is not None:
            stop.add_note(f"What was finished lies in {folder}: the same call goes on from there.")
        if isinstance(stop, ValidationInterrupted):
            stop.record = Evidence.from_record(stop.record)
        raise
