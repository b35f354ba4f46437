"""How to trace causally again: command and Python, with names as literals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertracer.evidence import CausalRecord
from layertracer.reports._values.reproduce import quote_word

_TASK = ("n_shot", "limit", "seed", "template", "prompt_field", "answer_field", "answer_prefix", "demonstration_sets")
_FLAGS = {
    "n_shot": "--shots",
    "limit": "--limit",
    "template": "--template",
    "prompt_field": "--prompt-field",
    "answer_field": "--answer-field",
    "answer_prefix": "--answer-prefix",
    "demonstration_sets": "--demonstration-sets",
}


def causal_command(record: CausalRecord) -> str:
    """The command that asks the same, quoted for a shell: the one that was given, else one of what was asked."""
    given = record.provenance.get("command")
    if isinstance(given, list | tuple) and list(given[:2]) == ["layertracer", "causal"]:
        return " ".join(quote_word(str(word)) for word in given)
    task = _task_of(record)
    words = ["layertracer", "causal", str(record.model["name"])]
    words += ["--task", _source_of(task) or "FILE"]
    for name, flag in _FLAGS.items():
        if task.get(name) is not None and _source_of(task):
            words += [flag, str(task[name])]
    words += ["--corrupt", record.corrupt, "--site", record.site, "--window", str(record.window)]
    if record.corrupt == "noise":
        words += ["--draws", str(record.n_draws), "--noise-scale", f"{record.noise_scale:g}"]
    words += ["--direction", record.direction, "--seed", str(record.seed)]
    least = record.spec.get("min_total_effect")
    words += ["--min-total-effect", f"{least:g}"] if isinstance(least, float) else []
    return " ".join(map(quote_word, words))


def causal_code(record: CausalRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    task = _task_of(record)
    arguments = "".join(f", {name}={task[name]!r}" for name in _TASK if task.get(name) is not None)
    source = _source_of(task)
    samples = f"lt.load_task({source!r}{arguments})" if source else "...  # the samples that were given"
    noise = [f"    draws={record.n_draws!r},", f"    noise_scale={record.noise_scale!r},"]
    lines = [
        "import layertracer as lt",
        "",
        f"samples = {samples}",
        "result = lt.causal_trace(",
        f"    {str(record.model['name'])!r},",
        "    samples,",
        f"    corrupt={record.corrupt!r},",
        f"    site={record.site!r},",
        f"    window={record.window!r},",
        *(noise if record.corrupt == "noise" else []),
        f"    direction={record.direction!r},",
        f"    min_total_effect={record.spec.get('min_total_effect', 0.01)!r},",
        f"    seed={record.seed!r},",
        *_chat_lines(record.spec),
        ")",
        'result.report("causal.html")',
    ]
    return "\n".join(lines)


def _chat_lines(spec: Mapping[str, Any]) -> list[str]:
    if not spec.get("chat"):
        return []
    given = {name: spec.get(name) for name in ("chat", "system", "template_arguments")}
    return [f"    {name}={value!r}," for name, value in given.items() if value]


def _task_of(record: CausalRecord) -> Mapping[str, Any]:
    task = record.spec.get("task")
    return task if isinstance(task, Mapping) else {}


def _source_of(task: Mapping[str, Any]) -> str:
    """What `load_task` was given; "" where samples were given by themselves."""
    source = str(task.get("source") or "")
    return str(task.get("name") or "") if source == "built-in" else "" if source == "records" else source
