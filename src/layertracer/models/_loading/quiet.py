"""Loading in silence and without waste; every switch is set back."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def paused_collector() -> Iterator[None]:
    """No garbage collection within.

    Importing transformers and building a network create hundreds of thousands of objects that stay; looking through
    them again and again for garbage takes a tenth of the start.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No advice and no progress bars of transformers within.

    What matters of its advice (weights that are missing, of another size, or left over) is checked by the caller and
    becomes an error or a line in LayerTracer's own log.
    """
    from transformers.utils import logging

    switches: Any = logging  # comes without types
    verbosity, has_bars = switches.get_verbosity(), switches.is_progress_bar_enabled()
    switches.set_verbosity_error()
    if has_bars:
        switches.disable_progress_bar()
    try:
        yield
    finally:
        switches.set_verbosity(verbosity)
        if has_bars:
            switches.enable_progress_bar()


@contextmanager
def quiet_gguf_reader() -> Iterator[None]:
    """No progress bar of the reader of .gguf files within: it does not heed the switch of transformers."""
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = getattr(reader, "tqdm", None)
    if bar is None:
        yield
        return
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar
