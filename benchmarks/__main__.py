"""Run the benchmark: `make bench`, `make bench-quick`.

    python -m benchmarks [--quick] [--jobs NAME ...] [--contenders NAME ...] [--resume]

Each job's figures are stored as soon as it is done, in benchmarks/results/bench.json (bench-quick.json); jobs that are
not run keep what is stored there. The page and the plots beside it are written from that file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, REFERENCE, SUBJECT
from benchmarks.driver import Field, run_job, tell
from benchmarks.jobs import FULL, QUICK, Job
from benchmarks.machine import describe_machine, source_digest
from benchmarks.models import folder_of
from benchmarks.plots import write_plots
from benchmarks.processes import BenchmarkError, python_of
from benchmarks.report import page_of
from benchmarks.summary import summarise

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and write; the exit code."""
    options = _parse(arguments)
    stem, jobs = ("bench-quick", QUICK) if options.quick else ("bench", FULL)
    stored = _read(RESULTS / f"{stem}.json")
    stored = {job.name: stored[job.name] for job in jobs if job.name in stored}
    wanted = [job for job in jobs if options.jobs is None or job.name in options.jobs]
    if options.page_only:
        wanted = []
    if options.resume:
        wanted = [job for job in wanted if not _is_current(stored.get(job.name), job)]
    began = time.perf_counter()
    try:
        if wanted:
            _run(wanted, options.contenders, stored, stem)
    except BenchmarkError as error:
        print(f"\n{error}\n\nJobs that were done are kept; go on with --resume.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Jobs that were done are kept; go on with --resume.", file=sys.stderr)
        return 130
    _write(stored, stem)
    tell(f"\n{(RESULTS / f'{stem}.md').read_text('utf-8')}")
    tell(f"{len(wanted)} jobs in {time.perf_counter() - began:.0f} s; written to benchmarks/results/{stem}.*")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller jobs, one to three rounds: some ten minutes")
    names = sorted({job.name for job in (*FULL, *QUICK)})
    parser.add_argument("--jobs", nargs="+", choices=names, metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="leave out jobs that are stored for this very code")
    parser.add_argument("--page-only", action="store_true", help="run nothing; write page and plots anew")
    options = parser.parse_args(arguments)
    missing = {REFERENCE, SUBJECT} - set(options.contenders)
    if missing:
        parser.error(f"every job needs {' and '.join(sorted(missing))} among its contenders")
    return options


def _run(jobs: Sequence[Job], contenders: Sequence[str], stored: dict[str, Any], stem: str) -> None:
    """Run jobs, those on one model with the same workers; `stored` and the file grow with each."""
    for name in contenders:
        python_of(name)  # refuses before anything is measured
    subprocess.run([sys.executable, "-m", "benchmarks.models", *{job.model for job in jobs}], check=True)
    with Field() as field:
        for model, group in itertools.groupby(jobs, key=lambda job: job.model):
            together = list(group)
            tell(f"{model} ({folder_of(model).name})")
            takes_part = {name for job in together for name in job.contenders}
            field.load(model, [name for name in contenders if name in takes_part])
            for job in together:
                tell(f" {job.name}: {job.title}")
                record = run_job(job, field, [name for name in contenders if name in job.contenders])
                stored[job.name] = record | {"summary": summarise(record)}
                _write(stored, stem)


def _is_current(record: dict[str, Any] | None, job: Job) -> bool:
    """Whether a job is stored as it would be measured now: same job, machine and code."""
    if record is None:
        return False
    same_job = record["spec"] == json.loads(json.dumps(asdict(job)))
    machine = {key: record["machine"].get(key) for key in describe_machine()}
    return same_job and machine == describe_machine() and record["source"] == source_digest()


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))["jobs"] if path.exists() else {}


def _write(stored: dict[str, Any], stem: str) -> None:
    """The figures, the page and the plots, in the jobs' own order."""
    RESULTS.mkdir(exist_ok=True)
    order = [job.name for job in (QUICK if stem.endswith("quick") else FULL) if job.name in stored]
    records = {name: stored[name] for name in order}
    text = json.dumps({"jobs": records}, indent=1)
    (RESULTS / f"{stem}.json").write_text(text + "\n", "utf-8")
    plots = write_plots(records, RESULTS, stem)
    (RESULTS / f"{stem}.md").write_text(page_of(records, plots, is_quick=stem.endswith("quick")), "utf-8")


if __name__ == "__main__":
    # A program that is told to end ends its workers too, and leaves no temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
