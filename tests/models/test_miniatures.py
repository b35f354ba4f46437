"""The miniatures that are part of the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import layertracer as lt
from layertracer.models import list_embedded
from layertracer.models._loading.embedded import find_embedded
from layertracer.tasks import list_tasks

from training import EMBEDDED, list_miniatures, write_questionnaires
from training.evaluation import evaluate, share_solved

ROOT = Path(__file__).parents[2]
NAMES = tuple(f"mini/{name}" for name in EMBEDDED)


def test_embedded_miniatures_are_listed() -> None:
    """All that belong to the package are there, with their number of parameters."""
    listed = {model.name: model for model in list_embedded()}
    assert set(NAMES) <= set(listed)
    for name in NAMES:
        assert listed[name].is_installed
        assert 800_000 < listed[name].n_parameters < 900_000
        assert listed[name].description.startswith("trained miniature: ")


def test_they_are_small() -> None:
    """Those in the package take at most 8 MB, all of the repository's at most 40 MB."""
    folders = [find_embedded(name) for name in NAMES]
    inside = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    outside = sum(file.stat().st_size for file in (ROOT / "miniatures").rglob("*") if file.is_file())
    assert inside <= 8_000_000
    assert inside + outside <= 40_000_000


@pytest.mark.parametrize("name", NAMES)
def test_they_are_what_transformers_loads(name: str) -> None:
    """The model of a name has the logits of the checkpoint that `AutoModelForCausalLM` loads."""
    from transformers import AutoModelForCausalLM

    model = lt.load_model(name)
    module = AutoModelForCausalLM.from_pretrained(find_embedded(name), dtype=torch.float32).eval()
    ids = model.tokenizer("hot -> cold\nwide ->", return_tensors="pt").input_ids
    assert model.name == name
    assert model.self_check.method == "ladder"
    with torch.no_grad():
        expected = module(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(model.module(input_ids=ids, use_cache=False).logits, expected)


@pytest.mark.parametrize("name", ["mini/attention", "mini/hybrid"])
def test_they_solve_new_prompts(name: str) -> None:
    """Attention and the hybrid solve at least 95 % of held-out relation prompts, and know held-out pairs."""
    module = lt.load_model(name).module
    scores = evaluate(module, write_questionnaires(n=30, seed=7))
    assert share_solved(scores, "prompts") >= 0.95
    assert share_solved(scores, "templates") >= 0.95
    capital = next(one for one in scores if (one.task, one.novelty) == ("country-capital", "pairs"))
    assert capital.n_right / capital.n >= 0.9


@pytest.mark.parametrize("task", [info.name for info in list_tasks()])
def test_built_in_tasks_run_as_they_are(task: str, mini_hybrid: lt.TracedModel) -> None:
    """Each built-in task runs; pairs with a word that the model does not know are left out and counted."""
    trace = lt.trace(mini_hybrid, lt.load_task(task, n_shot=4, limit=12))
    assert trace.n_prompts == 12
    assert trace.solved_share is not None
    assert trace.solved_share >= 0.9
    left_out = trace.spec.task["n_left_out"].get("has a word outside the model's vocabulary", 0)
    assert (left_out > 0) == (task == "country-capital")


def test_names_are_unique() -> None:
    """No miniature outside the package has the name of one inside."""
    outside = {folder.name for folder in (ROOT / "miniatures").glob("*/")}
    assert outside <= {miniature.name for miniature in list_miniatures()} - set(EMBEDDED)
