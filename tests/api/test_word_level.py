"""Tasks on models that read only the words they know."""

from __future__ import annotations

from pathlib import Path

import pytest

import layertracer as lt

from tests.support.checkpoints.command_line import write_word_checkpoint

N_KNOWN = 40
UNKNOWN_PAIR = "has a word outside the model's vocabulary"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lt.TracedModel:
    """A model that knows the words of some capitals and of some antonyms."""
    samples = [*lt.load_task("country-capital", n_shot=0)[:N_KNOWN], *lt.load_task("antonym", n_shot=0)[:N_KNOWN]]
    words = " ".join(f"{sample.prompt}{sample.answer}" for sample in samples).split()
    return lt.load_model(write_word_checkpoint(tmp_path_factory.mktemp("models") / "words", words), device="cpu")


@pytest.mark.parametrize("name", ["antonym", "country-capital"])
def test_built_in_tasks_run_as_they_are(model: lt.TracedModel, name: str, tmp_path: Path) -> None:
    """A trace reads as many prompts as were asked for, all of known words, and its record says what was left out."""
    task = lt.load_task(name, n_shot=4, limit=6)
    trace = lt.trace(model, task, perturbation=lt.Mask(draws=2, fraction=0.5))
    assert (trace.n_prompts, trace.spec.task["n_samples"], trace.spec.task["n_shot"]) == (6, 6, 4)
    n_unknown = trace.spec.task["n_left_out"][UNKNOWN_PAIR]
    assert any(
        warning.startswith(f"{n_unknown} of ") and "outside the model's vocabulary" in warning
        for warning in trace.warnings
    )
    unknown_id = model.tokenizer.unk_token_id
    assert not any(unknown_id in (*prompt.prompt_ids, *prompt.target_ids) for prompt in trace.prompts)
    assert lt.load_run(trace.save(tmp_path / "run")).spec == trace.spec


def test_all_calls_ask_the_same_prompts(model: lt.TracedModel) -> None:
    """Plans, readouts and traces of a task are of the same prompts, and the plan says what was left out."""
    task = lt.load_task("country-capital", n_shot=2, limit=5)
    plan, readout = lt.plan(model, task), lt.read_layers(model, task)
    trace = lt.trace(model, task)
    assert plan.n_prompts == len(readout.log_probs) == trace.n_prompts == 5
    targets = [prompt.target_ids[0] for prompt in trace.prompts]
    read = readout.log_probs[range(5), -1, targets].numpy()
    assert read == pytest.approx(trace.target_log_prob[:, -1], abs=1e-5)
    assert any("outside the model's vocabulary: they were left out" in note for note in plan.notes)


def test_samples_keep_their_order_and_number(model: lt.TracedModel) -> None:
    """Of samples given as a list none is left out: a trace has a row for each, and unknown answers are warned of."""
    known = lt.load_task("country-capital", n_shot=0)[0]
    samples = [lt.Sample(prompt=known.prompt, answer=" Atlantis"), known]
    trace = lt.trace(model, samples)
    assert trace.target_prob.shape[0] == 2
    assert trace.prompts[0].target_ids == (model.tokenizer.unk_token_id,)
    assert "1 of 2 answers contain the tokenizer's unknown token: their probability means little." in trace.warnings


def test_a_task_of_unknown_words(model: lt.TracedModel, tmp_path: Path) -> None:
    """A task of which the model knows no pair is refused before anything runs, with a word that it does not know."""
    path = tmp_path / "made-up.tsv"
    path.write_text("input\toutput\nfloop\tgloop\nbrillig\tslithy\n")
    message = "all 2 pairs of 'made-up' have a word outside the model's vocabulary, such as 'floop'"
    with pytest.raises(lt.LayerTracerError, match=message):
        lt.trace(model, lt.load_task(path, n_shot=1))
