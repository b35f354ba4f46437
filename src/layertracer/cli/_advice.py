"""Advice of libraries that does not help here."""

from __future__ import annotations

import logging
import sys

_ADVISER = "transformers.integrations.hub_kernels"
_ADVICE = "is falling back to its reference PyTorch implementation"


def hide_advice_on_kernels() -> None:
    """No advice to install kernels for GPUs where there is no GPU: they would not run."""
    logger = logging.getLogger(_ADVISER)
    if _is_of_use not in logger.filters:
        logger.addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    torch = sys.modules.get("torch")
    has_gpu = torch is not None and bool(torch.cuda.is_available())
    return has_gpu or _ADVICE not in record.getMessage()
