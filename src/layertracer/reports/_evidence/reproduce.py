"""How to validate again: a command, and Python."""

from __future__ import annotations

from layertracer.evidence import EvidenceRecord
from layertracer.reports._values.reproduce import quote_word


def validate_command(record: EvidenceRecord) -> str:
    """The command that asks the same, quoted for a shell: the one that was given, else one of what was asked."""
    given = record.provenance.get("command")
    if isinstance(given, list | tuple) and list(given[:2]) == ["layertracer", "validate"]:
        return " ".join(quote_word(str(word)) for word in given)
    words = ["layertracer", "validate", str(record.model["name"]), "--task", str(record.task.get("name", "antonym"))]
    words += ["--limit", str(record.n_prompts), "--seed", str(record.seed)]
    words += ["--quick"] if record.quick else []
    words += [] if record.causal is not None else ["--no-causal"]
    return " ".join(map(quote_word, words))


def validate_code(record: EvidenceRecord) -> str:
    """The same in Python; names are literals, so that nothing in them is code."""
    lines = [
        "import layertracer as lt",
        "",
        f"task = lt.load_task({str(record.task.get('name', 'antonym'))!r}, limit={record.n_prompts!r})",
        "evidence = lt.validate(",
        f"    {str(record.model['name'])!r},",
        "    task,",
        *(["    quick=True,"] if record.quick else []),
        f"    seed={record.seed!r},",
        ")",
        'evidence.report("evidence.html")',
    ]
    return "\n".join(lines)
