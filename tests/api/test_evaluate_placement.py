"""`evaluate_placement` as a user's program calls it, against plain Transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt

from tests.support.tiny import fresh, tiny

SIZE, KEPT = 5, (1, 3)
IDS = torch.randint(1, 60, (4, 22), generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def mini() -> lt.TracedModel:
    """The trained attention miniature."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def expected() -> tuple[float, float]:
    """Divergence and change of loss of the same windows in a configuration of Transformers' own."""
    module = fresh("qwen3")
    n_layers = module.config.num_hidden_layers
    types = ["full_attention" if layer in KEPT else "sliding_attention" for layer in range(n_layers)]
    settings = module.config.to_dict() | {"layer_types": types, "sliding_window": SIZE, "use_sliding_window": True}
    placed = type(module)(type(module.config)(**settings, attn_implementation="eager")).eval()
    placed.load_state_dict(module.state_dict())
    with torch.no_grad():
        full, own = (one(IDS, use_cache=False).logits.double().log_softmax(-1) for one in (module, placed))
    loss = [-log[:, SIZE:-1].gather(-1, IDS[:, SIZE + 1 :, None]).mean().item() for log in (full, own)]
    return (full.exp() * (full - own)).sum(-1)[:, SIZE:].mean().item(), loss[1] - loss[0]


@pytest.mark.parametrize(
    "rows",
    [IDS, IDS.numpy(), IDS.tolist(), [tuple(row) for row in IDS.tolist()]],
    ids=["tensor", "array", "lists", "tuples"],
)
def test_token_ids_in_any_form_give_what_transformers_give(rows: Any, expected: tuple[float, float]) -> None:
    """Tensors, arrays and lists of token ids are read as they are, at every position from the window's size on."""
    found = lt.evaluate_placement(tiny("qwen3"), rows, kept=KEPT, substitute=lt.Window(SIZE))
    assert (found.kl_nats, found.nll_change) == (
        pytest.approx(expected[0], abs=1e-6),
        pytest.approx(expected[1], abs=1e-6),
    )
    assert expected[0] > 1e-4
    assert found.kept == KEPT
    assert (found.judgement.n_rows, found.judgement.n_positions) == (4, 4 * (22 - SIZE))
    assert found.kl_interval is not None
    assert found.kl_interval.low <= found.kl_nats <= found.kl_interval.high


@pytest.mark.parametrize(("kept", "size"), [(range(5), 3), ((), 22), ((2,), 40)])
def test_where_nothing_is_lost_the_divergence_is_zero(kept: Any, size: int) -> None:
    """All layers kept give 0 exactly; a window over the whole of the rows proves nothing and is refused."""
    model = tiny("qwen3")
    if size < IDS.shape[1]:
        found = lt.evaluate_placement(model, IDS, kept=kept, substitute=lt.Window(size))
        assert (found.kl_nats, found.nll_change) == (0.0, 0.0)
        return
    with pytest.raises(lt.UsageError, match=rf"too short for a window of {size} tokens: the 4 rows have 22 tokens"):
        lt.evaluate_placement(model, IDS, kept=kept, substitute=lt.Window(size))


def test_a_placement_is_saved_and_judged_again(tmp_path: Path) -> None:
    """A saved placement, given by its path or loaded, costs what its layers and its window cost."""
    model, path = tiny("qwen3"), tmp_path / "placement.json"
    placement = lt.Placement(
        layers=KEPT, substitute=lt.Window(SIZE), n_layers=5, placeable=tuple(range(5)), model="qwen3", chosen_by="hand"
    )
    assert placement.save(path) == path
    assert lt.load_placement(path) == placement
    first = lt.evaluate_placement(model, IDS, kept=KEPT, substitute=lt.Window(SIZE))
    for given in (path, str(path), lt.load_placement(path)):
        again = lt.evaluate_placement(model, IDS, placement=given)
        assert (again.kl_nats, again.kept, again.substitute) == (first.kl_nats, KEPT, lt.Window(SIZE))


def test_tasks_are_numbers_with_intervals(mini: lt.TracedModel) -> None:
    """The share solved of each task is a number, with its interval, the full model's and the paired change."""
    found = lt.evaluate_placement(mini, False, kept=[0, 4], substitute=lt.Window(8), tasks=["recall", "antonym"])
    recall = found.accuracy["recall"]
    assert math.isnan(found.kl_nats)
    assert found.kl_interval is None
    assert 0.0 <= recall.interval.low <= recall == recall.share <= recall.interval.high <= 1.0
    assert recall.full_share > 0.8
    assert recall.change == pytest.approx(recall - recall.full_share)
    assert recall.change_interval.high < 0.0 < recall.kl_nats
    assert found.accuracy["antonym"] >= 0.9
    assert recall.n_prompts == 32
    kept = lt.evaluate_placement(mini, False, kept=range(8), substitute=lt.Window(8), tasks="recall").accuracy["recall"]
    assert (kept, kept.change, kept.kl_nats) == (recall.full_share, 0.0, 0.0)


def test_recall_is_judged_by_what_plain_forwards_say(mini: lt.TracedModel) -> None:
    """A task that a user loaded is judged as it is: the full model's share is that of one plain forward a prompt."""
    task = lt.load_task("recall", n_keys=8, min_distance=3, n_shot=2, limit=24)
    found = lt.evaluate_placement(mini, False, kept=[], substitute=lt.Window(9), tasks=[task]).accuracy["recall"]
    solved = []
    for sample in task:
        assert sample.prompt is not None
        ids, (answer,) = (mini.tokenizer(text, add_special_tokens=head)["input_ids"] for text, head in
                          ((sample.prompt, True), (sample.answer, False)))  # fmt: skip
        place = ids.index(answer)
        if place <= len(ids) - 1 - 9:  # beyond the window
            with torch.no_grad():
                solved.append(mini.module(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item() == answer)
    assert found.n_prompts == len(solved)
    assert found.full_share == pytest.approx(np.mean(solved))


def test_text_is_cut_into_passages(mini: lt.TracedModel) -> None:
    """Texts are cut into passages by the model's own tokenizer; without rows the model writes them."""
    text = "\n".join(f"{sample.prompt}{sample.answer}" for sample in lt.load_task("antonym", n_shot=3, limit=20))
    found = lt.evaluate_placement(mini, text, kept=[0, 4], substitute=lt.Window(8), row_tokens=40)
    assert found.judgement.n_positions == found.judgement.n_rows * 32
    assert found.kl_nats > 0.0
    own = lt.evaluate_placement(mini, kept=[0, 4], substitute=lt.Window(8), row_tokens=40, n_rows=3)
    assert own.notes[0] == "Text: 3 passages of 40 tokens that the model wrote itself (temperature 1, seed 0)."


@pytest.mark.parametrize("substitute", [lt.NoMixer(), lt.MeanMixer(), lt.Window(4, sinks=2)], ids=repr)
def test_it_prints_at_eighty_columns(substitute: Any, mini: lt.TracedModel) -> None:
    """What is printed has the answer, and no line longer than 80 characters."""
    found = lt.evaluate_placement(
        mini, kept=[0, 4], substitute=substitute, tasks=["recall"], row_tokens=32, n_rows=4, n_prompts=8
    )
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert f"KL(full ‖ placed): {found.kl_nats:.4f} nats" in str(found)
    assert "of 8 prompts solved" in str(found)


def test_what_the_model_does_not_solve_is_left_out_or_refused(mini: lt.TracedModel) -> None:
    """A task that the full model does not solve is not judged on; where it is all there is, that is an error."""
    wrong = [
        lt.Sample(prompt=f"hot -> cold\nbig -> small\n{word} ->", answer=" hot") for word in ("low", "old", "wet")
    ] * 3
    arguments = {"kept": [0], "substitute": lt.Window(4), "tasks": {"wrong": wrong}}
    found = lt.evaluate_placement(mini, row_tokens=32, n_rows=2, **arguments)
    assert found.accuracy == {}
    assert "The model solves 0 of 3 prompts of 'wrong'" in found.notes[-1]
    with pytest.raises(lt.TaskError, match=r"nothing left to judge the placement on\. The model solves 0 of 3"):
        lt.evaluate_placement(mini, False, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"substitute": lt.Window(4)},
            r"kept cannot be of type NoneType.*Give the layers that keep .* or a placement=",
        ),
        ({"kept": "0"}, r"kept cannot be of type str"),
        ({"kept": [0.5], "substitute": lt.Window(4)}, r"Each layer of kept must be a whole number, got 0\.5"),
        (
            {"kept": [0]},
            r"It is not said what stands in the layers that are not kept\. Give substitute=lt\.Window\(64\)",
        ),
        ({"kept": [0], "substitute": 64}, r"substitute must be a Window, a NoMixer or a MeanMixer, got 64"),
        ({"kept": [9], "substitute": lt.Window(4)}, r"keeps \[9\], but a window of 4 tokens can stand in the layers"),
        ({"kept": [0], "substitute": lt.Window(4), "n_rows": 0}, r"n_rows must be at least 1, got 0"),
        ({"placement": 5}, r"placement cannot be of type int"),
        ({"placement": "p.json", "kept": [1]}, r"leave kept= and substitute= out"),
        (
            {"rows": 3.5, "kept": [0], "substitute": lt.Window(4)},
            r"rows cannot be of type float.*Give a file or a text",
        ),
        ({"rows": [], "kept": [0], "substitute": lt.Window(4)}, r"rows cannot be .*It is empty"),
        (
            {"rows": [[1, 2, 101]], "kept": [0], "substitute": lt.Window(1)},
            r"Row 0 has token id 101, but 'qwen3' reads",
        ),
        ({"rows": False, "kept": [0], "substitute": lt.Window(1)}, r"nothing to judge the placement on"),
        ({"rows": "some text of words", "kept": [0], "substitute": lt.Window(1)}, r"'qwen3' has no tokenizer"),
        ({"tasks": 5, "kept": [0], "substitute": lt.Window(1)}, r"tasks cannot be of type int"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    """What is missing, said twice, out of range or of no kind that is taken is refused, with what would do."""
    with pytest.raises(lt.UsageError, match=message):
        lt.evaluate_placement(tiny("qwen3"), **{"rows": IDS, **arguments})


def test_rows_longer_than_the_context_are_refused(mini: lt.TracedModel) -> None:
    """A row that the model cannot read is refused with its length."""
    with pytest.raises(lt.PromptTooLongError, match=r"up to 300 tokens, at most 256 fit"):
        lt.evaluate_placement(mini, [list(range(2, 302))], kept=[0], substitute=lt.Window(8))


def test_a_placement_of_another_model_is_refused() -> None:
    """A placement of a model with another number of layers is refused."""
    placement = lt.Placement(
        layers=(0,), substitute=lt.Window(4), n_layers=7, placeable=(0, 1), model="other", chosen_by="hand"
    )
    with pytest.raises(lt.UsageError, match=r"The placement is of 'other' with 7 layers, and 'qwen3' has 5"):
        lt.evaluate_placement(tiny("qwen3"), IDS, placement=placement)
