"""How to run a trace again: the command and the Python code that its specification stands for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from layertracer.reports._values.visible import visible_line
from layertracer.runs import TraceRecord, TraceSpec

_TASK_OPTIONS = {
    "--shots": "n_shot",
    "--demonstration-sets": "demonstration_sets",
    "--seed": "seed",
    "--prompt-field": "prompt_field",
    "--answer-field": "answer_field",
    "--answer-prefix": "answer_prefix",
    "--keys": "n_keys",
    "--min-distance": "min_distance",
}
_TASK_ARGUMENTS = (
    *("n_shot", "demonstration_sets", "limit", "seed", "template", "templates"),
    *("prompt_field", "answer_field", "answer_prefix", "header", "n_keys", "min_distance"),
)
_DEFAULT_TEMPLATE = "{input} -> {output}"
_SHA256_DIGITS = 64
_CLASSES = {
    "mask": "Mask",
    "noise": "Noise",
    "skip": "Skip",
    "rise": "Rise",
    "ratio": "Ratio",
    "abs_ratio": "AbsRatio",
    "first_top1": "FirstTop1",
    "half_max": "HalfMax",
    "change_point": "ChangePoint",
}


def command_line(record: TraceRecord) -> str | None:
    """The command, quoted for a shell; None where the command line cannot express the trace.

    The command line has no given masks, no several templates, no single positions, and no criterion but with its
    default parameters (apart from the threshold of `Rise`); these need Python.
    """
    spec = record.spec
    perturbation, task = _perturbation_words(spec), _task_words(spec.task)
    if perturbation is None or task is None or spec.perturbation.get("positions", "all") != "all" or spec.lenses:
        return None
    words = ["layertracer", "trace", record.model.name, *task, "--target", spec.target]
    if spec.target_tokens != "first":
        words += ["--target-tokens", spec.target_tokens]
    words += [*perturbation, "--onset", str(spec.onset.get("kind", "rise"))]
    if "delta" in spec.onset:
        words += ["--delta", f"{spec.onset['delta']:g}"]
    words += _certificate_words(record)
    if revision := _hub_revision(record):
        words += ["--revision", revision]
    return " ".join(map(quote_word, [*words, "--device", record.model.device, "--dtype", record.model.dtype]))


def _certificate_words(record: TraceRecord) -> list[str]:
    """Options for a trace that stops by itself."""
    if record.certificate is None:
        return []
    budget = record.certificate.budget
    words = ["--until", "certified", "--confidence", f"{record.certificate.confidence:g}"]
    return words if budget is None else [*words, "--budget", str(budget)]


def _certificate_lines(record: TraceRecord) -> list[str]:
    """Arguments for a trace that stops by itself."""
    if record.certificate is None:
        return []
    asked = record.certificate
    budget = [] if asked.budget is None else [f"    budget={asked.budget!r},"]
    return ['    until="certified",', f"    confidence={asked.confidence!r},", *budget]


def _perturbation_words(spec: TraceSpec) -> list[str] | None:
    """Options for the perturbations, which must differ in their sites alone; None where they do not."""
    asked, sites = spec.perturbation, [str(one.get("site")) for one in spec.perturbations]
    kind = asked.get("kind")
    if len(set(sites)) < len(sites) or any({**one, "site": sites[0]} != dict(asked) for one in spec.perturbations):
        return None
    if kind == "skip":
        return ["--perturbation", "skip"]
    where = [word for site in sites for word in ("--site", site)] + ["--draws", str(asked.get("draws"))]
    if kind == "noise":
        return ["--perturbation", "noise", *where, "--noise-scale", f"{asked['scale']:g}"]
    if kind != "mask" or "fraction" not in asked:
        return None
    how = ["--mask-fraction", f"{asked['fraction']:g}", "--scheme", str(asked["scheme"]), "--fill", str(asked["fill"])]
    return [*where, *how]


def _hub_revision(record: TraceRecord) -> str | None:
    """The commit on the hub; what identifies a file, its hash, is no revision that can be asked for."""
    revision = record.model.revision
    return revision if revision is not None and "/" in record.model.name and len(revision) != _SHA256_DIGITS else None


def quote_word(word: str) -> str:
    """A word for a shell; hidden characters are written as escapes, so that what is read is what runs."""
    if visible_line(word) == word:
        return shlex.quote(word)
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in word.encode("utf-8")
    )
    return f"$'{''.join(shown)}'"


def _task_words(task: Mapping[str, Any]) -> list[str] | None:
    """Options for the task; None for samples that were given in Python, and for several templates."""
    if _is_given(task) or task.get("templates"):
        return None
    words = ["--task", _task_source(task), "--limit", str(task.get("limit") or "all")]
    for option, key in _TASK_OPTIONS.items():
        if task.get(key) is not None:
            words += [option, str(task[key])]
    if task.get("header") is not None:
        words += ["--header" if task["header"] else "--no-header"]
    if task.get("template") not in (None, _DEFAULT_TEMPLATE):
        words += ["--template", str(task["template"]).replace("\n", "\\n")]
    return [*words, *_chat_words(task)] if task.get("chat") else words


def _chat_words(task: Mapping[str, Any]) -> list[str]:
    """Options for the chat template."""
    words = ["--chat"]
    if task.get("system") is not None:
        words += ["--system", str(task["system"])]
    for name, value in (task.get("template_arguments") or {}).items():
        words += ["--template-argument", f"{name}={json.dumps(value)}"]
    return words


def _is_given(task: Mapping[str, Any]) -> bool:
    """Whether the prompts were given in Python, so that nothing can load them again."""
    return task.get("kind") in ("samples", "crossed") or task.get("source") == "records"


def _task_source(task: Mapping[str, Any]) -> str:
    """What `load_task` takes: a built-in name, a file, a data set."""
    source = task.get("source")
    return str(task.get("name", "antonym") if source in (None, "built-in") else source)


def python_code(record: TraceRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    model, spec = record.model, record.spec
    hub_revision = _hub_revision(record)
    revision = "" if hub_revision is None else f", revision={hub_revision!r}"
    task_arguments = "".join(f", {key}={spec.task[key]!r}" for key in _TASK_ARGUMENTS if spec.task.get(key) is not None)
    task = f"lt.load_task({_task_source(spec.task)!r}{task_arguments})"
    if _is_given(spec.task):
        task = "...  # the prompts that the trace was given"
    lines = [
        "import layertracer as lt",
        "",
        f"model = lt.load_model({model.name!r}, device={model.device!r}, dtype={model.dtype!r}{revision})",
        f"task = {task}",
        "trace = lt.trace(",
        "    model,",
        "    task,",
        *_perturbation_lines(spec),
        f"    onset={_construct(spec.onset)},",
        f"    target={spec.target!r},",
        f"    target_tokens={spec.target_tokens!r},",
        *_chat_lines(spec.task),
        f"    seed={spec.seed!r},",
        *_certificate_lines(record),
        ")",
        'trace.report("report.html")',
    ]
    return "\n".join(lines)


def _perturbation_lines(spec: TraceSpec) -> list[str]:
    """Arguments for what is done to each layer, and for the lenses, which are not stored with their weights."""
    lenses = [f"    lens=[...],  # the lenses {', '.join(map(visible_line, spec.lenses))}"] if spec.lenses else []
    if not spec.further_perturbations:
        return [f"    perturbation={_construct(spec.perturbation)},", *lenses]
    several = [f"        {_construct(one)}," for one in spec.perturbations]
    return ["    perturbation=[", *several, "    ],", *lenses]


def _chat_lines(task: Mapping[str, Any]) -> list[str]:
    """Arguments for the chat template."""
    given = {name: task.get(name) for name in ("chat", "system", "template_arguments")} if task.get("chat") else {}
    return [f"    {name}={value!r}," for name, value in given.items() if value]


def _construct(asked: Mapping[str, Any]) -> str:
    """The call that makes a perturbation or a criterion."""
    kind = str(asked.get("kind"))
    if kind == "mask" and asked.get("scheme") == "explicit":
        return f"lt.Mask.explicit(keep, site={asked['site']!r}, fill={asked['fill']!r})"
    if kind not in _CLASSES:
        return repr(dict(asked))
    left_out = {"kind", "site", "draws"} if kind == "skip" else {"kind"}
    arguments = ", ".join(
        f"{name}={value!r}" for name, value in asked.items() if name not in left_out and name.isidentifier()
    )
    return f"lt.{_CLASSES[kind]}({arguments})"
