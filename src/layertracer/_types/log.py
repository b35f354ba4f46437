"""LayerTracer's log, in which control characters are written as escapes: it quotes names that files brought."""

from __future__ import annotations

import logging

from layertracer._errors import printable


def make_printable(record: logging.LogRecord) -> bool:
    """Write the control characters of a log line as escapes; a filter that lets every line pass."""
    message = record.getMessage()
    shown = printable(message)
    if shown != message:
        record.msg, record.args = shown, ()
    return True


logging.getLogger("layertracer").addFilter(make_printable)
