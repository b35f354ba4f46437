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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"subject": 5},
            r"subject must be text \(str\), got 5 \(int\)\. Its positions in prompt_ids= go to subject_span=",
        ),
        ({"subject": "  "}, r"subject is empty, got '  '\. Give the words"),
        ({"subject": "hot", "subject_from": -1}, r"subject_from must be 0 or more and goes with subject=, got -1"),
        ({"subject_from": 1}, r"subject_from must be 0 or more and goes with subject=, got 1 and None"),
        ({"subject_span": (0, 1)}, r"subject_span=\(0, 1\) counts positions of prompt_ids="),
        ({"contrast": 3}, r"contrast must be text \(str\), got 3 \(int\)\. Token ids go to contrast_ids="),
        ({"contrast": ""}, r"contrast is empty"),
        ({"contrast_ids": (1,)}, r"contrast_ids= goes with prompt_ids=.*Give the contrast as text"),
        ({"contrast_answer": 3}, r"contrast_answer must be text \(str\).*contrast_answer_id="),
        ({"contrast_answer": ""}, r"contrast_answer is empty"),
        ({"contrast_answer": " a", "contrast_answer_id": 3}, r"got both \(' a', 3\)"),
        ({"contrast_answer_id": "x"}, r"contrast_answer_id must be a whole number, got 'x'"),
        ({"relation": 7}, r"relation must be text \(str\), got 7"),
    ],
)
def test_what_causal_tracing_is_told_of_a_text_is_checked(settings: dict[str, Any], message: str) -> None:
    """Each mistake has one error that says what was got and what would do."""
    with pytest.raises(lt.UsageError, match=message):
        lt.Sample(prompt="hot is", answer=" cold", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subject": "hot"}, r"subject='hot' is looked for in the text prompt=.*subject_span=\(first, end\)"),
        ({"subject_span": 3}, r"subject_span must be two positions, got 3"),
        ({"subject_span": (0, 1, 2)}, r"subject_span must be two positions, got \(0, 1, 2\)"),
        ({"subject_span": (0, 1.5)}, r"Each of subject_span must be a whole number, got 1\.5"),
        ({"subject_span": (2, 2)}, r"subject_span must lie in prompt_ids, which has 3 tokens, got \(2, 2\)"),
        ({"subject_span": (1, 4)}, r"subject_span must lie in prompt_ids, which has 3 tokens, got \(1, 4\)"),
        ({"subject_span": (-1, 2)}, r"subject_span must lie in prompt_ids"),
        ({"contrast": "x"}, r"contrast='x' is text, and this sample has prompt_ids="),
        ({"contrast_ids": ()}, r"contrast_ids is empty"),
        ({"contrast_ids": "x"}, r"contrast_ids must be token ids"),
    ],
)
def test_what_causal_tracing_is_told_of_token_ids_is_checked(settings: dict[str, Any], message: str) -> None:
    """Likewise for positions and tokens."""
    with pytest.raises(lt.UsageError, match=message):
        lt.Sample(prompt_ids=(1, 5, 9), answer_id=7, **settings)


def test_spans_are_taken_from_any_pair_of_positions() -> None:
    """Tuples, lists, arrays, tensors and ranges become a tuple of Python's own numbers."""
    for given in ((1, 3), [1, 3], np.array([1, 3]), torch.tensor([1, 3]), range(1, 3)):
        span = lt.Sample(prompt_ids=(1, 5, 9), subject_span=given).subject_span
        assert span == (1, 3)
        assert {type(position) for position in span or ()} == {int}
