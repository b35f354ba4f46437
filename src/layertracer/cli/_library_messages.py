"""What libraries log and warn of, with control characters written as escapes.

They quote names out of files that somebody else made, and write on the terminal by themselves.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Any

from layertracer._errors import printable

_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def escape_library_messages() -> None:
    """Write control characters as escapes in every log line and warning of this process."""
    logging.setLogRecordFactory(_make_printable_record)
    warnings.formatwarning = _format_printable_warning


def _make_printable_record(*arguments: Any, **settings: Any) -> logging.LogRecord:
    from layertracer._types import make_printable

    record = _make_record(*arguments, **settings)
    # A line whose arguments do not fit is left to logging, which says so when the line is written.
    with contextlib.suppress(TypeError, ValueError):
        make_printable(record)
    return record


def _format_printable_warning(*arguments: Any, **settings: Any) -> str:
    return printable(_format_warning(*arguments, **settings))
