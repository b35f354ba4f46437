"""How to design again, and how to use what was found: commands, Python, configurations to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from layertracer._types.substitutes import Window
from layertracer.advice import AdviceRecord
from layertracer.reports._advice.wording import TEXT
from layertracer.reports._values.reproduce import quote_word
from layertracer.reports._values.visible import visible_text

_MOST_SNIPPETS = 6


def design_command(record: AdviceRecord) -> str:
    """The command that asks the same, quoted for a shell: the one that was given, else one of what was asked."""
    given = record.provenance.get("command")
    if isinstance(given, list | tuple) and list(given[:2]) == ["layertracer", "design"]:
        return " ".join(quote_word(str(word)) for word in given)
    words = ["layertracer", "design", str(record.model["name"])]
    tasks = _listed(record.spec, "tasks")
    words += [word for task in tasks for word in ("--task", task)] if tasks else ["--no-tasks"]
    words += [] if _has_text(record) else ["--no-text"]
    words += ["--keep", ",".join(str(n_kept) for n_kept in sorted(record.placements))]
    if isinstance(record.substitute, Window):
        words += ["--window", str(record.substitute.size), "--sinks", str(record.substitute.sinks)]
    else:
        words += ["--substitute", record.substitute.kind]
    words += ["--search", record.search, "--seed", str(record.seed)]
    if isinstance(record.spec.get("n_random"), int):
        words += ["--random", str(record.spec["n_random"])]
    if record.pairs is not None:
        words.append("--pairs")
    return " ".join(map(quote_word, words))


def design_code(record: AdviceRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    tasks, name = _listed(record.spec, "tasks"), str(record.model["name"])
    n_random = record.spec.get("n_random")
    lines = [
        "import layertracer as lt",
        "",
        "advice = lt.design(",
        f"    {name!r},",
        f"    tasks={tuple(tasks)!r},",
        f"    text={None if _has_text(record) else False!r},{_text_note(record)}",
        f"    keep={tuple(sorted(record.placements))!r},",
        f"    substitute={_construct(record)},",
        f"    search={record.search!r},",
        *([f"    n_random={n_random!r},"] if isinstance(n_random, int) else []),
        *(["    pairs=True,"] if record.pairs is not None else []),
        f"    rows={_rows(record)!r},",
        f"    seed={record.seed!r},",
        ")",
        'advice.report("advice.html")',
    ]
    return "\n".join(lines)


def _has_text(record: AdviceRecord) -> bool:
    """Whether text was searched or judged on."""
    return TEXT in record.evaluations.n_held_out_rows or TEXT in record.evaluations.n_search_rows


def _text_note(record: AdviceRecord) -> str:
    return "  # the text that was given, in its place; None is text that the model writes" if _has_text(record) else ""


def _rows(record: AdviceRecord) -> dict[str, int]:
    """How many rows there were, as they are asked for."""
    names = {"n_search": "search", "n_compared": "compared", "n_held_out": "held_out", "row_tokens": "tokens"}
    found = {name: record.spec.get(field) for field, name in names.items()}
    return {name: number for name, number in found.items() if isinstance(number, int)}


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
