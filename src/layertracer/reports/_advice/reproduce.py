"""How to design again, and how to use what was found: commands, Python, configurations to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from layertracer._types.substitutes import Window
from layertracer.advice import AdviceRecord
from layertracer.reports._values.reproduce import quote_word
from layertracer.reports._values.visible import visible_text

_MOST_SNIPPETS = 6


def design_command(record: AdviceRecord) -> str:
    """The command that asks the same, quoted for a shell."""
    spec = record.spec
    words = ["layertracer", "design", str(record.model["name"])]
    for task in _listed(spec, "tasks"):
        words += ["--task", task]
    if spec.get("text") is not None:
        words += ["--text", str(spec["text"])]
    words += ["--keep", ",".join(str(n_kept) for n_kept in sorted(record.placements))]
    if isinstance(record.substitute, Window):
        words += ["--window", str(record.substitute.size), "--sinks", str(record.substitute.sinks)]
    else:
        words += ["--substitute", record.substitute.kind]
    words += ["--search", record.search, "--seed", str(record.seed)]
    if isinstance(spec.get("n_random"), int):
        words += ["--random", str(spec["n_random"])]
    if record.pairs is not None:
        words.append("--pairs")
    return " ".join(map(quote_word, words))


def design_code(record: AdviceRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    spec = record.spec
    lines = ["import layertracer as lt", "", "advice = lt.design(", f"    {str(record.model['name'])!r},"]
    if tasks := _listed(spec, "tasks"):
        lines.append(f"    tasks={tasks!r},")
    if spec.get("text") is not None:
        lines.append(f"    text={str(spec['text'])!r},")
    lines += [
        f"    keep={tuple(sorted(record.placements))!r},",
        f"    substitute={_construct(record)},",
        f"    search={record.search!r},",
        f"    seed={record.seed!r},",
        ")",
        'advice.report("advice.html")',
    ]
    return "\n".join(lines)


def _construct(record: AdviceRecord) -> str:
    """The call that makes the substitute."""
    if isinstance(record.substitute, Window):
        return f"lt.Window({record.substitute.size}, sinks={record.substitute.sinks})"
    return f"lt.{type(record.substitute).__name__}()"


def _listed(spec: Mapping[str, Any], name: str) -> list[str]:
    """Names in what was asked; an odd value is none."""
    found = spec.get(name)
    return [str(one) for one in found] if isinstance(found, list | tuple) else []


def snippet_texts(record: AdviceRecord) -> dict[str, str]:
    """The configuration to paste for each number kept, as JSON."""
    found = {}
    for n_kept in sorted(record.snippets)[:_MOST_SNIPPETS]:
        snippet = record.snippets[n_kept]
        if snippet is not None:
            found[str(n_kept)] = visible_text(_as_json(snippet))
    return found


def _as_json(snippet: Mapping[str, Any]) -> str:
    """JSON with a line for each field; lists stay on one."""
    fields = (f"  {json.dumps(str(name))}: {json.dumps(value, ensure_ascii=True)}" for name, value in snippet.items())
    return "{\n" + ",\n".join(fields) + "\n}"
