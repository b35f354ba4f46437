"""The generated task recall: keys with values, and one key that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layertracer._errors import EmptyTaskError, UsageError
from layertracer.tasks import Task, encode_samples, fit_task, load_task
from layertracer.tasks._recall import recall_words
from layertracer.tracing import TracedModel, load_model

from tests.support.tokenizers import word_tokenizer
from training.questions import write_samples


def read_prompt(prompt: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]], str]:
    """The pairs of a prompt, its demonstrations and the key that it asks for, read as plainly as possible."""
    first, *shown, key = prompt.split("\n")
    pairs = [(pair.split(" ")[0], pair.split(" ")[1]) for pair in first.split(", ")]
    return pairs, [(line.split(" ")[0], line.split(" ")[1]) for line in shown], key


@settings(max_examples=40)
@given(n_keys=st.integers(2, 40), seed=st.integers(0, 999), data=st.data())
def test_the_asked_value_stands_once_and_far_enough_back(n_keys: int, seed: int, data: st.DataObject) -> None:
    """All words of the list differ, demonstrations repeat other pairs, and the asked pair stands far enough back."""
    n_shot, distance = data.draw(st.integers(0, n_keys - 1)), data.draw(st.integers(0, n_keys - 1))
    for sample in load_task("recall", n_shot=n_shot, n_keys=n_keys, min_distance=distance, seed=seed, limit=3):
        assert sample.prompt is not None
        pairs, shown, key = read_prompt(sample.prompt)
        assert len({word for pair in pairs for word in pair}) == 2 * n_keys
        assert sample.answer == f" {dict(pairs)[key]}"
        assert len(set(shown)) == len(shown) == n_shot
        assert set(shown) < set(pairs)
        assert key not in dict(shown)
        assert len(pairs) - 1 - list(dict(pairs)).index(key) >= distance


@settings(max_examples=20)
@given(seed=st.integers(0, 99), limit=st.integers(1, 20))
def test_equal_seeds_give_equal_tasks_whatever_the_limit(seed: int, limit: int) -> None:
    """Equal arguments give equal tasks, other seeds others, and the first prompts do not depend on the limit."""
    task = load_task("recall", seed=seed, limit=20)
    assert task == load_task("recall", seed=seed, limit=20)
    assert task.samples != load_task("recall", seed=seed + 1, limit=20).samples
    assert load_task("recall", seed=seed, limit=limit).samples == task.samples[:limit]


def test_asked_pairs_stand_at_all_places() -> None:
    """Over the prompts of one task every place of the list is asked for, and no pair twice."""
    task = load_task("recall", n_keys=4, n_shot=1)
    places, asked = set(), []
    for sample in task:
        pairs, _, key = read_prompt(str(sample.prompt))
        places.add(list(dict(pairs)).index(key))
        asked.append((key, sample.answer))
    assert places == {0, 1, 2, 3}
    assert len(asked) == len(set(asked)) == 256


def test_specification_says_how_it_was_made() -> None:
    """The specification names the kind, the keys and the distance; those of other tasks have neither."""
    spec = load_task("recall", n_keys=6, min_distance=2, n_shot=3, seed=5, limit=4).spec
    found = {name: spec[name] for name in ("name", "kind", "source", "n_shot", "limit", "seed", "template")}
    assert found == {
        "name": "recall",
        "kind": "generated",
        "source": "built-in",
        "n_shot": 3,
        "limit": 4,
        "seed": 5,
        "template": None,
    }
    assert (spec["n_keys"], spec["min_distance"], spec["n_samples"]) == (6, 2, 4)
    assert not {"n_keys", "min_distance"} & set(load_task("antonym", limit=2).spec)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_keys": 1}, r"n_keys must be at least 2, got 1\."),
        ({"n_keys": "six"}, r"n_keys must be a whole number, got 'six'"),
        (
            {"n_keys": 4},
            r"n_shot=5 demonstrations, .* need at least 6 keys, got n_keys=4\. Raise n_keys",
        ),
        ({"min_distance": 8}, r"min_distance must be from 0 to 7 with n_keys=8, got 8\."),
        ({"min_distance": -1}, r"min_distance must be from 0 to 7 with n_keys=8, got -1\."),
        ({"template": "{input} {output}"}, r"template='\{input\} \{output\}' does not apply to recall"),
        ({"demonstration_sets": 2}, r"demonstration_sets=2 does not apply to recall"),
        ({"header": False}, r"header=False does not apply to recall"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Numbers out of range, and settings of other tasks, are refused with what would do."""
    with pytest.raises(UsageError, match=message):
        load_task("recall", **arguments)


def test_its_settings_are_refused_elsewhere() -> None:
    """Settings of recall do not apply to other tasks."""
    with pytest.raises(UsageError, match=r"n_keys=9 does not apply to antonym: it is for the task 'recall'\. Leave it"):
        load_task("antonym", n_keys=9)


def test_more_keys_than_words_is_refused() -> None:
    """More keys than there are words for is refused with both numbers."""
    n_words = len(recall_words())
    with pytest.raises(EmptyTaskError, match=rf"n_keys=5000 keys .* take 10000 .* there are {n_words} to draw from"):
        load_task("recall", n_keys=5000)


def test_a_small_vocabulary_gets_prompts_of_its_words() -> None:
    """A model with an unknown token gets prompts of the words that it knows, as many as were asked for."""
    known = recall_words()[::20]
    tokenizer = word_tokenizer([*known, ","])
    task = load_task("recall", n_keys=6, limit=12)
    fitted = fit_task(task, tokenizer)
    assert fit_task(fitted, tokenizer) is fitted
    assert len(fitted) == 12
    encoded = encode_samples(task, tokenizer)
    assert not any(tokenizer.unk_token_id in (*one.prompt_ids, *one.answer_ids) for one in encoded.samples)
    n_words = len(recall_words())
    left_out = f"{n_words - len(known)} of {n_words} words are outside the model's vocabulary"
    assert encoded.left_out == (f"{left_out}: prompts are made of the others.",)
    assert fit_task(load_task("recall", n_keys=6, limit=3), tokenizer).samples == fitted.samples[:3]


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    """A model that knows too few words is refused with how many it knows."""
    tokenizer = word_tokenizer(recall_words()[:7])
    with pytest.raises(EmptyTaskError, match=r"words of 'recall' are outside .* n_keys=8 .* there are 7 to draw from"):
        fit_task(load_task("recall"), tokenizer)


def share_solved(model: TracedModel, samples: Any) -> float:
    """Share of prompts whose answer is the top token, by one plain forward each."""
    import torch

    encoded = encode_samples(samples, model.tokenizer).samples
    assert all(len(one.answer_ids) == 1 for one in encoded)
    with torch.no_grad():
        tops = [model.module(input_ids=torch.tensor([one.prompt_ids])).logits[0, -1].argmax().item() for one in encoded]
    return sum(top == one.answer_ids[0] for top, one in zip(tops, encoded, strict=True)) / len(tops)


def test_a_miniature_solves_it_as_often_as_it_learnt_to() -> None:
    """The trained attention miniature solves recall as often as prompts of its own training's form."""
    model = load_model("mini/attention")
    own = share_solved(model, write_samples("recall", n=60))
    assert own >= 0.95
    for n_keys, n_shot in ((6, 0), (8, 2)):
        task: Task = load_task("recall", n_keys=n_keys, n_shot=n_shot, limit=60)
        assert share_solved(model, task) >= own - 0.05
