"""The page: one table for each job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders import CONTENDERS, REFERENCE

_COLUMNS = (
    "contender",
    "CPU s",
    "wall s",
    "prompts/s",
    "CPU s over LayerTracer's",
    "peak MiB beyond weights",
    "GFLOP",
    "of matrix rate",
    "gap, bits",
    "runs",
)


def page_of(records: Mapping[str, Mapping[str, Any]], plots: Mapping[str, str], *, is_quick: bool) -> str:
    """The results in Markdown.

    Args:
        records: What was measured, by job.
        plots: Files of the plots beside the page, by title.
        is_quick: Whether these are the small jobs.
    """
    command = "make bench-quick" if is_quick else "make bench"
    lines = [f"# {'Quick benchmark' if is_quick else 'Benchmark'}", ""]
    lines += [f"<!-- Written by `{command}`. -->", ""]
    lines += ["[What is measured and how](../../docs/benchmarks.md) stands in the documentation.", ""]
    lines += [*_conditions(list(records.values())), ""]
    for record in records.values():
        lines += _section(record)
    for title, file in plots.items():
        lines += [f"## {title}", "", f"![{title}]({file})", ""]
    return "\n".join(lines)


def _conditions(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Machine, day and versions: one line, or one for each machine and day that occur."""
    together: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        together.setdefault(_machine_line(record), []).append(record)
    if len(together) == 1:
        return [f"{line}; {_versions_line(members)}." for line, members in together.items()]
    return [
        f"- {', '.join(member['spec']['name'] for member in members)}: {line}; {_versions_line(members)}."
        for line, members in together.items()
    ]


def _machine_line(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return (
        f"{machine['cpu']}, {machine['n_cores']} cores, {machine['memory_gib']:g} GiB, {machine['system']}; "
        f"one thread; {record['measured_on']}; Python {machine['python']}"
    )


def _versions_line(records: Sequence[Mapping[str, Any]]) -> str:
    """Every version of every package that was used; peers may need different ones of each other."""
    versions: dict[str, set[str]] = {}
    for record in records:
        for packages in record["versions"].values():
            for package, version in packages.items():
                versions.setdefault(package, set()).add(version)
    return ", ".join(f"{package} {' and '.join(sorted(found))}" for package, found in sorted(versions.items()))


def _section(record: Mapping[str, Any]) -> list[str]:
    spec, summary = record["spec"], record["summary"]
    rates = record["product_gflop_per_s"]
    rate = f"{min(rates):.0f}" if len(rates) == 1 else f"{min(rates):.0f} to {max(rates):.0f}"
    lines = [f"## {spec['name']}", "", f"{spec['title']}. Matrix products alone: {rate} GFLOP a CPU second.", ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(_cells(name, row)) + " |" for name, row in summary.items()]
    if not record["peak_is_of_the_run"]:
        lines += ["", "The system keeps no peak of a single run: these are peaks since the process began."]
    if took := record.get("loading_cpu_s"):  # absent in figures that were stored before it was measured
        loading = ", ".join(f"{CONTENDERS[name].label} {_number(seconds)}" for name, seconds in took.items())
        lines += ["", f"Loading, once, in CPU seconds: {loading}."]
    return [*lines, ""]


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    gap = row["largest_gap_bits"]
    return [
        CONTENDERS[name].label,
        _spread(row["cpu_s"]),
        _spread(row["wall_s"]),
        _number(row["prompts_per_s"]),
        _spread(row["ratio_of_cpu_s"]),
        f"{row['peak_bytes'] / 2**20:.0f}",
        _number(row["gflop"]),
        f"{100 * row['share_of_product_rate']:.0f} %",
        "–" if name == REFERENCE or gap is None else f"{gap:.0e}" if gap else "0",
        str(row["n_runs"]),
    ]


def _spread(values: Mapping[str, float]) -> str:
    """A median with the range around it."""
    median, least, largest = (_number(values[key]) for key in ("median", "min", "max"))
    return median if least == largest else f"{median} ({least}–{largest})"


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
