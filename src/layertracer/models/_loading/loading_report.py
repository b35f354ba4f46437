"""Loading report: what became of a checkpoint's weights, and the errors where a model did not come of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from layertracer._errors import LayerTracerError, ModelLoadError, OutOfMemoryError, printable_cause, printable_name
from layertracer._types import panics_as_errors

_SMALLER = (
    "Use dtype='bfloat16', another device, device_map='auto' (all GPUs, main memory and disk), or a smaller model."
)
OTHER_FILES = "Copy its files again: those of a tokenizer take a few hundred MB."

_AT_MOST = 600
"""So many characters of what another library says are shown: it may quote whole files."""


def check_loading_report(module: nn.Module, report: Mapping[str, Any], label: str) -> None:
    """Refuse a model of which some weights did not come from the checkpoint.

    transformers would fill them with random numbers and only advise to train the model.

    Raises:
        ModelLoadError: If weights are missing or have another size.
    """
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelLoadError(
            f"{label} lacks {len(missing)} of the weights that {type(module).__name__} needs: {some_of(missing)}. "
            "They would be random, and every number with them. Expected a complete checkpoint of a language model."
        )
    mismatched = sorted(report.get("mismatched_keys") or ())
    if mismatched:
        sizes = [f"{name} is {list(got)}, expected {list(expected)}" for name, got, expected in mismatched]
        raise ModelLoadError(
            f"{label}: {len(mismatched)} weight(s) do not fit the sizes in config.json: {some_of(sizes)}. "
            "Use the config.json that belongs to these weights."
        )
    if report.get("error_msgs"):
        raise ModelLoadError(f"{label} could not be read completely: {some_of(map(str, report['error_msgs']))}.")


def some_of(names: Iterable[str], *, at_most: int = 4) -> str:
    """The first of the names in their order, and how many more there are."""
    listed = list(names)
    more = len(listed) - at_most
    return ", ".join(map(printable_name, listed[:at_most])) + (f" and {more} more" if more > 0 else "")


@contextmanager
def explained_failures(label: str, place: str, *, what_helps: str = _SMALLER) -> Iterator[None]:
    """Whatever another library raises within, as an error in words that a user can act upon.

    Args:
        label: What is loaded.
        place: Where it shall be.
        what_helps: What to do where memory runs out.

    Raises:
        OutOfMemoryError: If memory ran out.
        ModelLoadError: If anything else went wrong, with its reason in one line.
    """
    try:
        with panics_as_errors():
            yield
    except LayerTracerError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = printable_name((str(error).splitlines() or ["no more memory."])[0], at_most=_AT_MOST)
        raise OutOfMemoryError(f"{label} does not fit on {place}: {reason} {what_helps}") from printable_cause(error)
    # Files of unknown content go through code of others, and perhaps through code of the checkpoint.
    except Exception as error:  # noqa: BLE001 - there is no list of what that raises
        reason = printable_name(" ".join(str(error).split()).rstrip("."), at_most=_AT_MOST)
        raise ModelLoadError(f"{label} cannot be loaded ({type(error).__name__}): {reason}.") from printable_cause(
            error
        )
