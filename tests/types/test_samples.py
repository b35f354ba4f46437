"""What a sample is made of: taken from any container of token ids, and refused with one error where it is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt


@pytest.mark.parametrize(
    "given",
    [
        (1, 5, 9),
        [1, 5, 9],
        np.array([1, 5, 9]),
        torch.tensor([1, 5, 9]),
        torch.tensor([[1, 5, 9]]),
        [[1, 5, 9]],
        [np.int64(1), torch.tensor(5), 9],
        range(1, 10, 4),
    ],
    ids=repr,
)
def test_token_ids_are_taken_from_any_container(given: object) -> None:
    """Lists, arrays and tensors, a single row of two axes too, become a tuple of Python's own numbers."""
    for sample in (lt.Sample(prompt_ids=given), lt.Sample(prompt_ids=(0,), decoder_ids=given)):
        ids = sample.prompt_ids if sample.decoder_ids is None else sample.decoder_ids
        assert ids == (1, 5, 9)
        assert {type(token) for token in ids} == {int}


def test_an_answers_id_is_a_number_of_pythons_own() -> None:
    """NumPy's numbers and tensors of one number too."""
    for given in (7, np.int32(7), torch.tensor(7), np.array(7)):
        sample = lt.Sample(prompt_ids=(1,), answer_id=given)
        assert (sample.answer_id, type(sample.answer_id)) == (7, int)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": 5}, r"prompt must be text \(str\), got 5 \(int\)\. Token ids go to prompt_ids="),
        ({"prompt": b"hot"}, r"prompt must be text \(str\), got b'hot' \(bytes\)"),
        ({"prompt": ["hot"]}, r"prompt must be text \(str\), got \['hot'\] \(list\)"),
        ({"prompt": "hot", "answer": 7}, r"answer must be text \(str\).*A token id goes to answer_id="),
        ({"prompt": "hot", "answer": float("nan")}, r"answer must be text \(str\), got nan"),
        ({"prompt_ids": "hot"}, r"prompt_ids must be token ids, got 'hot' \(str\)"),
        ({"prompt_ids": b"hot"}, r"prompt_ids must be token ids, got b'hot' \(bytes\)"),
        ({"prompt_ids": 5}, r"prompt_ids must be token ids, got 5 \(int\)"),
        ({"prompt_ids": ["1", "2"]}, r"Each of prompt_ids must be a whole number, got '1' \(str\)"),
        ({"prompt_ids": (1, 2.5)}, r"Each of prompt_ids must be a whole number, got 2\.5 \(float\)"),
        ({"prompt_ids": torch.tensor([1.0])}, r"Each of prompt_ids must be a whole number, got 1\.0 \(float\)"),
        ({"prompt_ids": (True,)}, r"Each of prompt_ids must be a whole number, got True \(bool\)"),
        ({"prompt_ids": torch.tensor([True])}, r"Each of prompt_ids must be a whole number, got True \(bool\)"),
        ({"prompt_ids": [[1, 2], [3, 4]]}, r"Each of prompt_ids must be a whole number, got \[1, 2\] \(list\)"),
        ({"prompt_ids": (None,)}, r"Each of prompt_ids must be a whole number, got None"),
        ({"prompt_ids": (1,), "decoder_ids": "a"}, r"decoder_ids must be token ids"),
        ({"prompt_ids": (1,), "answer_id": True}, r"answer_id must be a whole number, got True"),
        ({"prompt_ids": (1,), "answer_id": "7"}, r"answer_id must be a whole number, got '7'"),
        ({"prompt_ids": (1,), "answer_id": 7.0}, r"answer_id must be a whole number, got 7\.0"),
    ],
)
def test_what_is_no_text_and_no_token_is_refused(settings: dict[str, Any], message: str) -> None:
    """One error that names the argument, what was got, and what to give."""
    with pytest.raises(lt.UsageError, match=message):
        lt.Sample(**settings)
