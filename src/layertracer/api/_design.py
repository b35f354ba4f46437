"""Design advice asked for: which layers of a model should keep their mixers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from layertracer._types import Substitute
from layertracer.advice import DesignPlan, Search
from layertracer.api._advice import Advice
from layertracer.api._asked import ModelLike, ProgressLike
from layertracer.api._claimed import claimed_folder
from layertracer.api._design_asked import take_options, take_question
from layertracer.api._progress import telling_progress
from layertracer.api._taken import refused, take_model, take_path
from layertracer.runs import ADVICE, expand_home

if TYPE_CHECKING:
    from layertracer.hybrids import Question
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Question = Progress = Any

_UNIT = "measurement"


def design(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    tasks: Any = ("recall",),
    *,
    text: Any = None,
    keep: Any = None,
    budget: str | int | None = None,
    context: SupportsIndex | None = None,
    substitute: Substitute | None = None,
    search: Search = "greedy",
    seed: SupportsIndex = 0,
    n_random: SupportsIndex = 200,
    pairs: bool = False,
    ratio: bool = True,
    trace: bool = True,
    divisions: bool = True,
    gates: bool = True,
    against: str | None = "published",
    rows: Mapping[str, int] | None = None,
    audit: float = 0.02,
    memory: str | int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressLike = None,
    on_plan: Callable[[DesignPlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> Advice:
    """Which layers of a model should keep their mixers when the others get something cheaper.

    Placements are compared by their objective: the mean KL(full ‖ placed) over rows of text, plus the mean over the
    tasks of the mean KL at their answers, text and tasks each counting alike. It is searched on some rows and judged on
    others, of which none was searched on; every position that is read lies at or beyond what a window sees.

    Laws: the same inputs and seed give the same advice; what is found does not depend on `out`, nor on what an earlier
    call left there.

    Args:
        model: From `load_model` or `wrap_model`; or what those take.
        tasks: Tasks by their names ("recall" and other built-in ones are made longer than the window), files, tasks of
            `load_task`, or prompts with answers; one or a list of them, or a dictionary by name. () for none.
        text: A text, a file, or a list of texts or of rows of token ids; None for text that the model writes itself;
            False for none.
        keep: How many layers are to keep their mixer: a number, or several; None for a quarter.
        budget: What the KV cache of one text of `context` tokens may take, instead of `keep`, e.g. "2GiB".
        context: Tokens of that text; with `keep`, the share of the cache that each placement keeps is stated.
        substitute: What stands in the other layers: `Window(64, sinks=4)` by default, `NoMixer()` or `MeanMixer()`.
        search: "greedy" (from both ends, and an exchange of layers at the end; all placements where they are few),
            "singles", "joint_js", "pairs" or "exact".
        seed: Seed of rows, random placements, resamples, and of what the audit draws.
        n_random: Random placements of each size to compare with.
        pairs: Whether the interaction of every two layers is measured.
        ratio: Whether the cost is measured against the number of layers kept.
        trace: Whether a trace is made; without, there is no joint JS, and no baseline that a trace names.
        divisions: Whether regions of layers that behave alike are found.
        gates: Whether it is measured what early exit, and switching by the task particle, would gain.
        against: "published" for published lists of the same model and size beside the advised ones; None for none.
        rows: How many passages, and prompts of each task: {"search": 3, "compared": 6, "held_out": 16,
            "tokens": 72}, any of them; what is left out goes by the model's size and the window's.
        audit: Share of the measurements that are made again the plain way.
        memory: Memory that the passes may take, e.g. "4GiB"; None for most of what is free.
        out: Folder in which finished measurements are kept as they come, and the advice in the end: the same call goes
            on after Ctrl-C, and one with another `keep` or `search` takes what is there. None for nowhere.
        overwrite: Whether finished advice that lies in `out` is replaced.
        progress: True for a bar, or a function of one object with `done`, `total` and `stage`, called whenever
            something is measured.
        on_plan: Called once with the plan, before the search.
        command: The command line, for the provenance.

    Raises:
        UsageError: If what is asked makes no sense, for this model or at all; the message says what was got and what
            would do.
        TaskError: If the text is too short, or the tasks have too few prompts that the model solves.
        SiteError: If the substitute can stand in no layer, or the model reads with an encoder.
        RunError: If `out` holds the measurements of another design, something else, or the disk refuses.
        OutOfMemoryError: If not even one placement of one row fits.
        ModelError: If the model's own code raises anything else.
        KeyboardInterrupt: On Ctrl-C; what was finished lies in `out`.
    """
    if on_plan is not None and not callable(on_plan):
        raise refused("on_plan", on_plan, "Give a function of one argument, the plan.")
    taken = take_model(model)
    asked: dict[str, Any] = {"keep": keep, "budget": budget, "context": context, "substitute": substitute}
    asked |= {"search": search, "seed": seed, "n_random": n_random, "pairs": pairs, "ratio": ratio, "trace": trace}
    asked |= {"divisions": divisions, "gates": gates, "against": against, "audit": audit, "memory": memory}
    options = take_options(taken, rows, **asked)
    question = take_question(taken, tasks, text, options)
    telling: dict[str, Any] = {"progress": progress, "on_plan": on_plan, "command": command}
    if out is None:
        return _run(question, None, **telling)
    with claimed_folder(out, overwrite=overwrite, kind=ADVICE) as folder:
        advice = _run(question, folder, **telling)
        advice.save(folder, overwrite=True)
    return advice


def _run(question: Question, folder: Path | None, *, progress: ProgressLike, **asked: Any) -> Advice:
    from layertracer.hybrids import run_design

    try:
        with telling_progress(progress, f"Designing {question.model.name}", unit=_UNIT) as advance:
            return Advice.from_record(run_design(question, folder=folder, on_progress=advance, **asked))
    except BaseException as stop:
        if folder is not None:
            stop.add_note(f"What was finished lies in {folder}: the same call goes on from there.")
        raise


def plan_design(  # noqa: PLR0913 - likewise
    model: ModelLike,
    tasks: Any = ("recall",),
    *,
    text: Any = None,
    keep: Any = None,
    budget: str | int | None = None,
    context: SupportsIndex | None = None,
    substitute: Substitute | None = None,
    search: Search = "greedy",
    seed: SupportsIndex = 0,
    n_random: SupportsIndex = 200,
    pairs: bool = False,
    ratio: bool = True,
    trace: bool = True,
    divisions: bool = True,
    gates: bool = True,
    rows: Mapping[str, int] | None = None,
    audit: float = 0.02,
    memory: str | int | None = None,
    out: str | Path | None = None,
) -> DesignPlan:
    """What `design` would measure and take: placements, forwards, seconds. All arguments are those of `design`.

    The rows are made, the substitute is proved on the model, and one forward is timed; no placement is measured but the
    full model, on the tasks, to see whether it solves them.

    Raises:
        LayerTracerError: As `design`.
    """
    from layertracer.hybrids import make_ready

    taken = take_model(model)
    options = take_options(
        taken,
        rows,
        keep=keep,
        budget=budget,
        context=context,
        substitute=substitute,
        search=search,
        seed=seed,
        n_random=n_random,
        pairs=pairs,
        ratio=ratio,
        trace=trace,
        divisions=divisions,
        gates=gates,
        audit=audit,
        memory=memory,
    )
    folder = None if out is None else expand_home(take_path("out", out))
    return make_ready(take_question(taken, tasks, text, options), folder=folder).plan
