"""Hold every text family of the installed Transformers against independent oracles, and write docs/architectures.md.

    python scripts/make_architectures.py                     all of them, about a quarter of an hour on one core
    python scripts/make_architectures.py --only llama t5     these alone, without writing the page

Each family is built tiny with no parameter at its default, and what LayerTracer says of it is compared with plain
PyTorch hooks and with what people read in its source (tests/architectures). The exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers.utils import logging

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests are no installed package

conformance: Any = import_module("tests.architectures.conformance")
conformance_cases: Any = import_module("tests.architectures.conformance_cases")
conformance_page: Any = import_module("tests.architectures.conformance_page")


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine and write; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these families alone; the page is not written")
    parser.add_argument("--out", type=Path, default=conformance_page.PAGE, help="default: docs/architectures.md")
    options = parser.parse_args(arguments)
    cases = conformance_cases.all_cases()
    if options.only:
        unknown = set(options.only) - {name for case in cases for name in (case.label, case.name)}
        if unknown:
            parser.error(f"no such family: {', '.join(sorted(unknown))}")
        cases = tuple(case for case in cases if {case.label, case.name} & set(options.only))
    warnings.simplefilter("ignore")  # Transformers has something to say about many tiny configurations
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # Transformers does not annotate it
    began = time.perf_counter()
    verdicts = list(_examined(cases))
    n_wrong = sum(bool(verdict.faults or verdict.misnamed) for verdict in verdicts)
    print(f"{len(verdicts)} cases in {time.perf_counter() - began:.0f} s, {n_wrong} of them wrong.")
    if not options.only:
        options.out.write_text(conformance_page.page_of(verdicts), "utf-8")
        print(f"wrote {options.out}")
    return 1 if n_wrong else 0


def _examined(cases: Sequence[Any]) -> Iterator[Any]:
    """The verdict of each case, told on the terminal as it comes."""
    for number, case in enumerate(cases, start=1):
        verdict = conformance.examine(case)
        says = conformance_page.method_of(verdict)
        print(f"{number:>3}/{len(cases)}  {case.label:<58} {says:<30} {verdict.seconds:5.1f} s", flush=True)
        for fault in (*verdict.faults, *verdict.misnamed):
            print(f"         WRONG: {fault}", flush=True)
        yield verdict


if __name__ == "__main__":
    sys.exit(main())
