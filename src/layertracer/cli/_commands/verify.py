"""`layertracer verify`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layertracer._errors import LayerTracerError, printable
from layertracer.cli._console import describe_terminal, say, say_json
from layertracer.cli._exit_codes import EXIT_USER_ERROR, debug_option
from layertracer.cli._options import option

if TYPE_CHECKING:
    from layertracer.runs import Verification
else:  # under test, annotations are looked up when a function is called
    Verification = object

_PATH: Any = click.Path(path_type=Path)

_NO_SIGNATURE = (
    "A checksum is no signature: who can alter the files can make new ones. Keep the digest elsewhere, and compare it "
    "with --expect."
)


@click.command("verify", short_help="Say whether stored runs, advice and evidence are as they were written.")
@click.argument("runs", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@option(
    "--expect",
    "expected",
    metavar="DIGEST",
    multiple=True,
    help="Digest that a RUN must have, as an earlier verify printed it; once for each RUN, in order.",
)
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the text.")
@debug_option
def verify_command(runs: tuple[Path, ...], *, expected: tuple[str, ...], as_json: bool) -> None:
    """Say whether each stored RUN is as it was written, and all that is wrong with it.

    RUN is the folder that a trace, a design, a validation or a causal trace printed, or the file in it that ends in
    .json. Checksums, types, sizes and ranges of all its files are looked at, and the answers that it keeps are computed
    anew from its tables. Where another version or form keeps them, the first line says that they are not verified.
    Ends with 1 where anything is wrong with one of them. No model is loaded, and nothing is written.
    """
    if expected and len(expected) != len(runs):
        raise click.UsageError(f"--expect is given {len(expected)} times for {len(runs)} runs. Give it once for each.")
    digests = expected or (None,) * len(runs)
    found = [_verify(run, digest) for run, digest in zip(runs, digests, strict=True)]
    if as_json:
        say_json([{"run": str(run), **one} for run, one in zip(runs, map(_as_values, found), strict=True)])
    else:
        for run, one in zip(runs, found, strict=True):
            _print(run, one)
        _say_wrapped(_NO_SIGNATURE, "")
    if any(isinstance(one, LayerTracerError) or not one.is_intact for one in found):
        raise click.exceptions.Exit(EXIT_USER_ERROR)


def _verify(run: Path, digest: str | None) -> Verification | LayerTracerError:
    """What is found of a run; the error where there is none, so that the others are verified all the same."""
    from layertracer.api import verify_run

    try:
        return verify_run(run, expect=digest)
    except LayerTracerError as error:
        return error


def _as_values(found: Verification | LayerTracerError) -> dict[str, Any]:
    return {"error": str(found), "is_intact": False} if isinstance(found, LayerTracerError) else found.to_dict()


def _print(run: Path, found: Verification | LayerTracerError) -> None:
    if isinstance(found, LayerTracerError):
        say(f"{run}: not verified")
        _say_wrapped(str(found), "Error   ")
        return
    say(f"{run}: {_headline(found)}")
    for fault in found.faults:
        _say_wrapped(f"{fault.file}: {fault.reason}", "Fault   ")
    if found.format_version is not None:
        writer = "an unknown LayerTracer" if found.written_by is None else f"LayerTracer {found.written_by}"
        written = f"format {found.format_version}, written by {writer}"
        if found.n_prompts is None:  # of a run without faults it is known
            _say_wrapped(written, "Advice  " if found.holds == "advice" else "Stored  ")
        else:
            done = f"{found.n_prompts} of {found.n_requested} prompts"
            _say_wrapped(f"{written}; {found.status}, {done}", "Run     ")
    if found.digest is not None:
        say(f"  Digest  {found.digest}")
    if found.summary_agrees:
        say("  Answers follow from the tables")
    for note in found.notes:
        _say_wrapped(note, "Note    ")


def _headline(found: Verification) -> str:
    if not found.is_intact:
        return "NOT as it was written"
    # None beside no fault: the answers are of another version or form.
    return "as it was written" if found.summary_agrees else "its files are whole; its ANSWERS are NOT VERIFIED"


def _say_wrapped(text: str, name: str) -> None:
    indent = "  " + name if name else ""
    width = max(describe_terminal().width, len(indent) + 20)
    lines = textwrap.wrap(
        printable(" ".join(text.split())), width=width, initial_indent=indent, subsequent_indent=" " * len(indent)
    )
    for line in lines:
        say(line)
