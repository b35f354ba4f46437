"""Hold every text family of the installed Transformers against independent oracles, and write docs/architectures.md.

    python scripts/make_architectures.py                     all of them, some twenty minutes on two cores
    python scripts/make_architectures.py --only llama t5     these alone, without writing the page
    python scripts/make_architectures.py --shard 1/4         the first of four shares, without writing the page

Each family is built tiny with no parameter at its default, and what LayerTracer says of it is compared with plain
PyTorch hooks and with what people read in its source (tests/architectures/read_by_hand): once on short
prompts, and once on prompts of 50 tokens with windows, chunks and chosen keys of 20. What was found is kept in
build/architectures as long as no code changes, so that an interrupted run, or several shares, go on from there. The
exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from transformers.utils import logging

import layertracer
from layertracer._files import write_whole

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "architectures"
sys.path.insert(0, str(ROOT))  # the tests are no installed package

conformance: Any = import_module("tests.support.conformance.examination")
conformance_cases: Any = import_module("tests.support.conformance.cases")
conformance_page: Any = import_module("tests.support.conformance.page")
long_conformance: Any = import_module("tests.support.conformance.long_examination")


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine and write; the exit code."""
    options = _parsed(arguments)
    warnings.simplefilter("ignore")  # Transformers has something to say about many tiny configurations
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # Transformers does not annotate it
    began = time.perf_counter()
    cases, whole = options.cases, not (options.only or options.shard)
    try:
        if options.jobs > 1 and whole:
            _in_shares(options.jobs)
        verdicts = list(_examined(cases, is_kept=not options.only))
    except KeyboardInterrupt:
        if not options.shard:
            print(f"stopped; what was finished is kept in {KEPT}")
        return 130
    n_wrong = sum(bool(short.faults or short.misnamed or long.faults) for short, long in verdicts)
    print(f"{len(verdicts)} cases in {time.perf_counter() - began:.0f} s, {n_wrong} of them wrong.")
    if whole:
        write_whole(options.out, conformance_page.page_of(verdicts).encode())
        print(f"wrote {options.out}")
    return 1 if n_wrong else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these families alone; the page is not written")
    parser.add_argument("--shard", metavar="I/N", help="the I-th of N shares alone; the page is not written")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes; default: a core each")
    parser.add_argument("--out", type=Path, default=conformance_page.PAGE, help="default: docs/architectures.md")
    options = parser.parse_args(arguments)
    options.cases = conformance_cases.all_cases()
    if options.only:
        unknown = set(options.only) - {name for case in options.cases for name in (case.label, case.name)}
        if unknown:
            parser.error(f"no such family: {', '.join(sorted(unknown))}")
        options.cases = tuple(case for case in options.cases if {case.label, case.name} & set(options.only))
    if options.shard:
        share, _, n_shares = options.shard.partition("/")
        if not (share.isdecimal() and n_shares.isdecimal() and 1 <= int(share) <= int(n_shares)):
            parser.error(f"--shard takes a share and their number, such as 1/4, got {options.shard!r}")
        options.cases = options.cases[int(share) - 1 :: int(n_shares)]
    return options


def _in_shares(n_jobs: int) -> None:
    """Let as many processes examine a share each; what they find is kept."""
    command = [sys.executable, __file__, "--shard"]
    running = [subprocess.Popen([*command, f"{share + 1}/{n_jobs}"]) for share in range(n_jobs)]
    try:
        for process in running:
            process.wait()
    finally:  # nothing goes on in the background
        for process in running:
            process.terminate()
            process.wait()


def _examined(cases: Sequence[Any], *, is_kept: bool) -> Iterator[tuple[Any, Any]]:
    """What was found in each case on short prompts and on long ones, told on the terminal as it comes."""
    folder = KEPT / _state_of_the_code()
    for number, case in enumerate(cases, start=1):
        path = folder / f"{hashlib.sha256(case.label.encode()).hexdigest()[:16]}.pickle"
        found = _kept(path) if is_kept else None
        if found is None:
            found = conformance.examine(case), long_conformance.examine_long(case)
            if is_kept:
                _keep(path, found)
        _tell(f"{number:>3}/{len(cases)}", *found)
        yield found


def _tell(number: str, short: Any, long: Any) -> None:
    says, seconds = conformance_page.method_of(short), short.seconds + long.seconds
    print(f"{number}  {short.case.label:<58} {says:<30} {seconds:5.1f} s", flush=True)
    for fault in (*short.faults, *short.misnamed):
        print(f"         WRONG: {fault}", flush=True)
    for fault in long.faults:
        print(f"         WRONG with long prompts: {fault}", flush=True)
    for refusal in long.refusals if short.refusal is None else ():
        print(f"         refused with long prompts: {refusal}", flush=True)


def _state_of_the_code() -> str:
    """A name for the code that is examined, and for that which examines it."""
    digest = hashlib.sha256()
    for folder in (Path(layertracer.__file__).parent, ROOT / "tests" / "architectures", ROOT / "tests" / "support"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    for package in ("torch", "transformers"):
        digest.update(metadata.version(package).encode())
    return digest.hexdigest()[:16]


def _kept(path: Path) -> tuple[Any, Any] | None:
    """What an earlier run of this script found and kept with the same code; None where there is nothing."""
    if not path.exists():
        return None
    found: tuple[Any, Any] = pickle.loads(path.read_bytes())  # noqa: S301 — written by this script on this machine
    return found


def _keep(path: Path, found: tuple[Any, Any]) -> None:
    write_whole(path, pickle.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
