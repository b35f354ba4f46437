"""What is imported when: help answers at once, and a stored run needs no torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from layertracer.runs import save_run

from tests.support.records.sample_records import make_record

HEAVY = ("torch", "transformers", "accelerate", "safetensors")
LIMIT_S = 0.5

RUN_COMMAND = """
from layertracer.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
STARTS = {
    "import": ("-c", "import layertracer"),
    "help": ("-m", "layertracer", "--help"),
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run."""
    return save_run(make_record(n_prompts=3, n_layers=4), tmp_path_factory.mktemp("runs") / "run")


def _heavy_modules_after(program: str, *arguments: str) -> str:
    """The heavy packages that a program has imported when it ends, as it prints them."""
    source = f"import sys\n{program}\nprint(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "package", ["cli", "api", "reports", "comparisons", "runs", "measures", "tasks", "_types", "_errors", "_files"]
)
def test_package_imports_no_torch(package: str) -> None:
    """Importing a package other than `models` and `tracing` imports no torch."""
    assert _heavy_modules_after(f"import layertracer.{package}") == "[]"


def test_import_brings_no_numpy() -> None:
    """`import layertracer` imports none of the libraries that it uses."""
    program = "import layertracer, sys\nprint(sorted({'numpy', 'pandas', 'rich', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["--help", "trace --help", "inspect --help", "report --help", "compare --help", "tasks --help", "tasks"]
)
def test_command_needs_no_torch(command: str) -> None:
    """Help, and commands that need no model, import no torch."""
    assert _heavy_modules_after(RUN_COMMAND, *command.split()) == "[]"


def test_stored_run_is_read_and_drawn_without_torch(run_folder: Path, tmp_path: Path) -> None:
    """A run is loaded, summarised, drawn as a report and as figures, and made a table without torch."""
    program = f"""
import layertracer
from layertracer.reports import write_figures
trace = layertracer.load_run({str(run_folder)!r})
trace.task_particle, trace.vulnerable_layer, trace.to_pandas()
trace.report({str(tmp_path / "report.html")!r})
write_figures(trace, {str(tmp_path / "figures")!r})
trace.save({str(tmp_path / "again")!r})
"""
    assert _heavy_modules_after(program) == "[]"
    assert (tmp_path / "report.html").stat().st_size > 0


def test_report_command_needs_no_torch(run_folder: Path, tmp_path: Path) -> None:
    """`layertracer report RUN` imports no torch."""
    out = tmp_path / "report.html"
    assert _heavy_modules_after(RUN_COMMAND, "report", str(run_folder), "--out", str(out)) == "[]"
    assert out.stat().st_size > 0


def test_compare_command_needs_no_torch(run_folder: Path, tmp_path: Path) -> None:
    """`layertracer compare RUN RUN`, with its page and its table, imports no torch."""
    written = ("--out", str(tmp_path / "x.html"), "--csv", str(tmp_path / "x.csv"), "--resamples", "100")
    assert _heavy_modules_after(RUN_COMMAND, "compare", str(run_folder), str(run_folder), *written) == "[]"
    assert (tmp_path / "x.html").stat().st_size > 0


@pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS)
def test_starts_in_under_half_a_second(arguments: tuple[str, ...]) -> None:
    """`import layertracer` and `layertracer --help` take less than 0.5 s, interpreter included."""
    best_s = min(_elapsed_s(arguments) for _ in range(10))
    assert best_s < LIMIT_S


def _elapsed_s(arguments: tuple[str, ...]) -> float:
    """Wall-clock time of one start. The best of several is the program's cost; the rest is the machine's."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - start_s
