"""From the corpus to a checkpoint that anyone can load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

import layertracer as lt
from layertracer._errors import UsageError

from training import (
    FAMILIES,
    FAST,
    Recipe,
    ask_miniatures,
    find_miniature,
    list_miniatures,
    make_miniatures,
    make_tokenizer,
    train,
)
from training.__main__ import main
from training.optimise import Schedule

TINY = Recipe(n_steps=5, n_documents=2, n_tokens=16)


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_every_miniature_is_listed_once() -> None:
    """Seven families; of three of them two more seeds and two more sizes."""
    names = [miniature.name for miniature in list_miniatures()]
    assert len(names) == len(set(names)) == 19
    assert set(FAMILIES) <= set(names)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_match(family: str) -> None:
    """All families have the same number of parameters in size M, within 6 %."""
    from training import build_untrained

    module = build_untrained(find_miniature(family))
    assert sum(parameter.numel() for parameter in module.parameters()) == pytest.approx(850_000, rel=0.06)


@pytest.mark.parametrize("name", ["attention", "sliding", "mamba2", "mamba2-hybrid", "moe", "hybrid"])
def test_pipeline_repeats_itself(name: str, tmp_path: Path) -> None:
    """A few steps lead to a checkpoint; the same name gives the same weights, bit for bit."""
    (first,) = make_miniatures([name], folder=tmp_path / "first", recipe=FAST)
    (second,) = make_miniatures([name], folder=tmp_path / "second", recipe=FAST)
    weights, again = _weights(first), _weights(second)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    record = json.loads((first / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"]["n_steps"] == FAST.n_steps
    assert record["losses"][-1]["loss_nats"] < 9
    assert "| antonym |" in (first / "README.md").read_text(encoding="utf-8")
    read = AutoTokenizer.from_pretrained(first)("hot -> cold\nwide ->").input_ids
    assert read == make_tokenizer()("hot -> cold\nwide ->").input_ids


def test_checkpoint_is_loaded_by_transformers_and_traced(tmp_path: Path) -> None:
    """`AutoModelForCausalLM` and `load_model` read the folder, and the ladder runs on it."""
    from transformers import AutoModelForCausalLM

    (folder,) = make_miniatures(["mamba2-hybrid"], folder=tmp_path, recipe=FAST)
    module = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert module(**tokenizer("hot -> cold\nwide ->", return_tensors="pt")).logits.shape[-1] == len(tokenizer)
    model = lt.load_model(folder)
    assert model.self_check.method == "ladder"
    trace = lt.trace(model, lt.load_task("antonym", n_shot=2, limit=3))
    assert trace.js_bits.shape == (3, 5, 8)


def test_seeds_differ() -> None:
    """Another seed begins with other weights and reads other documents."""
    miniature = find_miniature("attention")
    losses = [train(replace(miniature, seed=seed), TINY).losses[-1].loss_nats for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_stopped_training_goes_on(tmp_path: Path) -> None:
    """A training that was stopped and goes on gives what it would have given without."""
    miniature, state = find_miniature("hybrid"), tmp_path / "state.pt"

    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(miniature, TINY, state_file=state, save_every=3, on_step=stop)
    steps: list[int] = []
    resumed = train(miniature, TINY, state_file=state, on_step=steps.append)
    whole = train(miniature, TINY)
    assert steps == [4, 5]
    assert resumed.losses == whole.losses
    for one, other in zip(resumed.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_states_of_other_recipes_are_refused(tmp_path: Path) -> None:
    """A training does not go on from a state whose rates followed another schedule."""
    state = tmp_path / "state.pt"
    train(find_miniature("attention-s"), TINY, state_file=state, save_every=2)
    with pytest.raises(UsageError, match=r"state\.pt holds an unfinished training of another recipe"):
        train(find_miniature("attention-s"), replace(TINY, n_steps=9), state_file=state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what PyTorch's compiler imports
@pytest.mark.filterwarnings("ignore::UserWarning")  # of its look at tensors with gradients
@pytest.mark.parametrize("name", ["hybrid", "mamba2-hybrid", "moe"])
def test_compiled_training_is_the_same(name: str) -> None:
    """Compiled or not, the losses of the first steps agree within the rounding that training spreads."""
    plain, compiled = (train(find_miniature(name), TINY, compiles=compiles) for compiles in (False, True))
    assert compiled.losses[-1].loss_nats == pytest.approx(plain.losses[-1].loss_nats, rel=1e-2)
    moved = [one - other for one, other in zip(compiled.module.parameters(), plain.module.parameters(), strict=True)]
    assert max(float(difference.abs().max()) for difference in moved) < 0.05


def test_global_generator_is_left_alone() -> None:
    """Building and training draw nothing from PyTorch's global generator."""
    before = torch.random.get_rng_state()
    train(find_miniature("gated-deltanet"), TINY)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_learns() -> None:
    """Sixty steps bring the loss of determined tokens far below that of a uniform guess."""
    trained = train(find_miniature("attention-s"), Recipe(n_steps=60, n_documents=16, n_tokens=32))
    assert trained.losses[0].loss_nats > 6.5
    assert trained.losses[-1].loss_nats < 5


def test_rates_rise_and_fall() -> None:
    """The rate rises, stays, and falls towards 0."""
    schedule = Schedule(n_steps=1000, n_warmup=50, decay_share=0.4)
    assert schedule.factor(0) == pytest.approx(1 / 50)
    assert schedule.factor(300) == 1
    assert schedule.factor(800) == pytest.approx(0.5)
    assert 0 < schedule.factor(999) < 0.01


def test_made_miniatures_are_kept(tmp_path: Path) -> None:
    """A miniature of the same recipe is left as it is; another recipe makes it anew."""
    (folder,) = make_miniatures(["attention-s"], folder=tmp_path, recipe=TINY)
    (folder / "mark").touch()
    make_miniatures(["attention-s"], folder=tmp_path, recipe=TINY)
    assert (folder / "mark").exists()
    make_miniatures(["attention-s"], folder=tmp_path, recipe=replace(TINY, n_steps=2))
    assert not (folder / "mark").exists()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """A folder that holds something else is not replaced."""
    (tmp_path / "attention-s").mkdir()
    (tmp_path / "attention-s" / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"attention-s is there and holds no miniature\. Name a folder"):
        make_miniatures(["attention-s"], folder=tmp_path, recipe=TINY)
    assert (tmp_path / "attention-s" / "thesis.txt").exists()


def test_command_trains(tmp_path: Path) -> None:
    """`python -m training NAME` writes the checkpoint and the card of the corpus."""
    result = CliRunner().invoke(main, ["attention-s", "--fast", "--steps", "3", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "attention-s" / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"] == {"n_steps": 3, "n_documents": 8, "n_tokens": 32}
    assert record["command"] == "python -m training --fast --steps 3 attention-s"
    assert (tmp_path / "attention-s" / "model.safetensors").is_file()
    assert "# The miniatures' corpus" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_models_are_asked_again(tmp_path: Path) -> None:
    """Asking again changes the record and the card of a miniature, and none of its weights."""
    (folder,) = make_miniatures(["attention-s"], folder=tmp_path, recipe=TINY)
    weights = (folder / "model.safetensors").read_bytes()
    asked = ask_miniatures((), folder=tmp_path, n=3)
    assert asked == (folder,)
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert {score["n"] for score in record["scores"]} == {3}
    assert (folder / "model.safetensors").read_bytes() == weights
    assert "3 of each kind" in (folder / "README.md").read_text(encoding="utf-8")


def test_command_refuses_unknown_names(tmp_path: Path) -> None:
    """A name that is of no miniature is one message and exit code 1."""
    result = CliRunner().invoke(main, ["atention", "--fast", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "Did you mean 'attention'" in result.output
