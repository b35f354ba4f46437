"""How to run a trace again: the command and the Python code that its specification stands for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from layertracer.reports._visible import visible_line
from layertracer.runs import TraceRecord

_TASK_ARGUMENTS = ("n_shot", "limit", "seed", "template", "prompt_field", "answer_field")
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

    The command line knows masks drawn at random; noise, skipped layers and given masks need Python.
    """
    asked = record.spec.perturbation
    if asked.get("kind") != "mask" or "fraction" not in asked:
        return None
    words = ["layertracer", "trace", record.model.name, *_task_words(record.spec.task)]
    words += ["--target", record.spec.target, "--site", str(asked["site"])]
    words += ["--mask-fraction", f"{asked['fraction']:g}", "--draws", str(asked["draws"])]
    words += ["--scheme", str(asked["scheme"]), "--fill", str(asked["fill"])]
    words += ["--onset", str(record.spec.onset.get("kind", "rise"))]
    if "delta" in record.spec.onset:
        words += ["--delta", f"{record.spec.onset['delta']:g}"]
    words += ["--device", record.model.device, "--dtype", record.model.dtype]
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    """A word for a shell; hidden characters are written as escapes, so that what is read is what runs."""
    if visible_line(word) == word:
        return shlex.quote(word)
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in word.encode("utf-8")
    )
    return f"$'{''.join(shown)}'"


def _task_words(task: Mapping[str, Any]) -> list[str]:
    words = ["--task", _task_name(task)]
    for option, key in (("--shots", "n_shot"), ("--limit", "limit"), ("--seed", "seed")):
        if task.get(key) is not None:
            words += [option, str(task[key])]
    return [*words, "--chat"] if task.get("chat") else words


def _task_name(task: Mapping[str, Any]) -> str:
    return str(task.get("name", "antonym"))


def python_code(record: TraceRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    model, spec = record.model, record.spec
    revision = "" if model.revision is None else f", revision={model.revision!r}"
    task_arguments = "".join(f", {key}={spec.task[key]!r}" for key in _TASK_ARGUMENTS if spec.task.get(key) is not None)
    lines = [
        "import layertracer as lt",
        "",
        f"model = lt.load_model({model.name!r}, device={model.device!r}, dtype={model.dtype!r}{revision})",
        f"task = lt.load_task({_task_name(spec.task)!r}{task_arguments})",
        "trace = lt.trace(",
        "    model,",
        "    task,",
        f"    perturbation={_construct(spec.perturbation)},",
        f"    onset={_construct(spec.onset)},",
        f"    target={spec.target!r},",
        f"    target_tokens={spec.target_tokens!r},",
        f"    seed={spec.seed!r},",
        ")",
        'trace.report("report.html")',
    ]
    return "\n".join(lines)


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
