"""Rows that placements are measured on: what is taken, and what is refused before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.tracing import JudgedRow
from layertracer.tracing._batching.judged_rows import check_rows

from tests.support.tiny import tiny


def test_rows_are_taken_out_of_arrays() -> None:
    """Ids and positions may come as arrays, tensors and ranges; they are kept as Python's own numbers."""
    row = JudgedRow(ids=torch.arange(5), read=np.arange(1, 5))  # type: ignore[arg-type]
    assert row == JudgedRow(ids=range(5), read=range(1, 5))  # type: ignore[arg-type]
    assert {type(number) for number in (*row.ids, *row.read)} == {int}


@pytest.mark.parametrize(
    ("ids", "read", "message"),
    [
        ((), (), "A row has 0 tokens and 0 positions"),
        ((1, 2), (), "A row has 2 tokens and 0 positions"),
        ((1, 2), (2,), "read must rise from 0 to 1 at most in a row of 2 tokens, got 2"),
        ((1, 2), (-1,), "read must rise from 0 to 1 at most"),
        ((1, 2, 3), (1, 1), "got 1, 1"),
        ((1, 2, 3), (2, 0), "got 2, 0"),
        ((1, 2, 3), (0.5,), r"Each of read must be a whole number, got 0\.5"),
        (("a",), (0,), "Each of ids must be a whole number"),
    ],
)
def test_what_cannot_be_read_is_refused(ids: Any, read: Any, message: str) -> None:
    """A row without tokens, or with positions that are none of its own or do not rise, is refused."""
    with pytest.raises(lt.UsageError, match=message):
        JudgedRow(ids=ids, read=read)


def test_rows_that_a_model_cannot_read_are_refused() -> None:
    """No row, something else than a row, unknown tokens and rows beyond the context are refused with their numbers."""
    network = tiny("llama").network
    assert network.max_length is not None
    row = JudgedRow(ids=(1, 2), read=(1,))
    too_long = JudgedRow(ids=(1,) * (network.max_length + 1), read=(1,))
    with pytest.raises(lt.UsageError, match="no row to measure placements on"):
        check_rows([], network)
    with pytest.raises(lt.UsageError, match="Row 1 is a tuple"):
        check_rows([row, (1, 2)], network)  # type: ignore[list-item]
    with pytest.raises(lt.PromptTooLongError, match=rf"1 of 2 rows .* at most {network.max_length} fit \(rows 1\)"):
        check_rows([row, too_long], network)
    with pytest.raises(lt.UsageError, match="Row 0 has token id 10000000"):
        check_rows([JudgedRow(ids=(10_000_000,), read=(0,))], network)
