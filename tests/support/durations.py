"""Seconds of the processor by test file: what is kept of a whole run, and what a later one is compared with.

    python -m pytest -n 2 --dist loadfile --keep-durations     writes tests/durations.json again (`make durations`)
    python -m pytest --fast                                    some tests of every file (`make test-fast`)

A whole run ends with a failure where a file's share of it is grossly larger than what was kept. Shares of processor
time hardly depend on the machine, on how many processes share the work, or on what else runs there.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

KEPT = Path(__file__).parents[1] / "durations.json"
FAST_S = 1.0
"""What a file may take in a fast run, by what was kept of it; one test of it runs at least."""
FEW = 2
"""Tests of a file of which nothing was kept, in a fast run."""
LONG_S = 5.0
"""No test of a file runs in a fast run where they take that long on average."""
SMALL = 0.05
"""Shares of a run that nobody looks at: what is done once in a process, or once on a machine, as the conversion of the
embedded default is, falls to the file that comes first."""
GROSS = 3.0
"""How many times its share a file may take."""


def grossly_longer(found: Mapping[str, float], kept: Mapping[str, float]) -> list[str]:
    """Files that take grossly more of a run than of the one that was kept, in words.

    Compared are the files that both runs know: what is new, or was moved, is compared once it has been kept.

    Args:
        found: Seconds by file.
        kept: The same of the run that was kept.
    """
    known = {file: seconds for file, seconds in found.items() if file in kept}
    whole, kept_whole = sum(known.values()), sum(kept[file] for file in known)
    told = []
    for file, seconds in sorted(known.items(), key=lambda pair: -pair[1]):
        share, before = seconds / whole, kept[file] / kept_whole
        if share > SMALL + GROSS * before:
            told.append(f"{file}: {share:.1%} of the tests' time ({seconds:.0f} s), {before:.1%} when it was kept")
    return told


def spread(n: int, n_chosen: int) -> list[int]:
    """Places of that many of n things, at least one, from the first on at equal distances."""
    n_chosen = min(n, max(1, n_chosen))
    return [place * n // n_chosen for place in range(n_chosen)]


# ---------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    parser.addoption("--keep-durations", action="store_true", help=f"write {KEPT.name} after a whole run")
    parser.addoption("--fast", action="store_true", help=f"as many tests of each file as take about {FAST_S:.0f} s")


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that sees all reports counts; workers measure."""
    config.pluginmanager.register(_Clock())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Account(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a fast run, tests at equal distances of each file."""
    if not config.getoption("--fast"):
        return
    by_file: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_file[_file_of(item.nodeid)].append(item)
    kept, chosen = _kept(), set()
    for file, own in by_file.items():
        chosen |= {own[place] for place in places_of(len(own), kept.get(file))}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def places_of(n_tests: int, seconds: float | None) -> list[int]:
    """Which tests of a file a fast run takes, by what all of them took."""
    if seconds is None:
        return spread(n_tests, FEW)
    return [] if seconds > LONG_S * n_tests else spread(n_tests, int(n_tests * FAST_S / max(FAST_S, seconds)))


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _kept() -> dict[str, float]:
    return dict(json.loads(KEPT.read_text("utf-8"))["seconds"])


# ---------------------------------------------------------------- measuring


class _Clock:
    """Writes into every report what its phase took of the processor, in this process and in those that it started."""

    def __init__(self) -> None:
        self._last_s = _processor_s()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """What comes between tests is nobody's."""
        self._last_s = _processor_s()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        """Each report tells what has been taken since the last one; it is sent to the controlling process as it is."""
        report: Any = yield
        now = _processor_s()
        report.processor_s, self._last_s = now - self._last_s, now
        return report


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _Account:
    """Adds up what reports tell, and compares or keeps it."""

    def __init__(self, config: pytest.Config) -> None:
        self._seconds: Counter[str] = Counter()
        self._keeps: bool = config.getoption("--keep-durations")
        # Of some tests alone shares say nothing.
        self._is_whole = (
            config.args_source is pytest.Config.ArgsSource.TESTPATHS
            and config.getoption("markexpr") == "not slow"
            and not any(config.getoption(name, None) for name in ("keyword", "--fast", "lf", "deselect", "maxfail"))
        )
        self._longer: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of a test."""
        self._seconds[_file_of(report.nodeid)] += getattr(report, "processor_s", 0.0)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Keep, or compare; a run that was broken off is neither."""
        if not self._is_whole or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        if self._keeps:
            KEPT.write_text(json.dumps(self._to_keep(), indent=2) + "\n", "utf-8")
            return
        self._longer = grossly_longer(self._seconds, _kept())
        if self._longer and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What takes grossly longer, and what to do about it."""
        if self._longer:
            terminalreporter.section("test files that take grossly longer than kept", red=True)
            terminalreporter.write_line("\n".join(self._longer))
            terminalreporter.write_line("Make them shorter (sizes, sharing, the marker slow), or run `make durations`.")

    def _to_keep(self) -> dict[str, Any]:
        machine = f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores"
        seconds = {file: round(taken, 1) for file, taken in sorted(self._seconds.items())}
        return {"machine": machine, "total_s": round(sum(seconds.values())), "seconds": seconds}
