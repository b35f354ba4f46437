"""`lt.causal_trace` on an embedded trained model: found, saved, read again, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import layertracer as lt
from layertracer.tracing import Progress


@pytest.fixture(scope="module")
def model() -> lt.TracedModel:
    """A trained miniature of eight attention layers."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def found(model: lt.TracedModel) -> lt.CausalTrace:
    """Six antonyms, each with another one's word swapped in."""
    return lt.causal_trace(model, lt.load_task("antonym", n_shot=2, limit=6), corrupt="swap")


def test_the_names_and_shapes_of_the_result(found: lt.CausalTrace) -> None:
    """Probabilities by prompt, cells by prompt, layer and position, effects and differences alike."""
    n_prompts, n_layers = 6, 8
    shape = (n_prompts, n_layers, int(found.lengths.max()))
    assert found.clean_prob.shape == found.corrupted_prob.shape == found.total_effect.shape == (n_prompts,)
    assert found.restored_prob.shape == found.indirect_effect.shape == found.recovery.shape == shape
    assert found.restored_prob.dtype == np.float32
    assert found.subject_spans.shape == (n_prompts, 2)
    assert found.logit_difference is not None
    assert found.logit_difference.restored.shape == shape
    np.testing.assert_allclose(found.total_effect, found.clean_prob - found.corrupted_prob)
    last = [found.recovery[index, -1, int(length) - 1] for index, length in enumerate(found.lengths)]
    np.testing.assert_allclose(last, 1.0, atol=1e-4)  # what leaves the last layer at the last token decides


def test_what_is_printed_says_where_the_effect_peaks(found: lt.CausalTrace) -> None:
    """One line of what was done, one for the last token and one for the others, each with its interval."""
    lines = repr(found).splitlines()
    assert lines[0] == "Causal trace of mini/attention at block_output (swap, direction denoise), 6 of 6 prompts:"
    assert lines[1].startswith("  last token: largest indirect effect ")
    assert lines[2].startswith("  last subject: largest indirect effect ")


def test_what_was_saved_is_read_again(found: lt.CausalTrace, tmp_path: Path) -> None:
    """A saved causal trace equals itself, and a report of it is a page; a taken place is refused."""
    folder = found.save(tmp_path / "causal")
    assert lt.load_causal(folder) == found
    assert found.report(tmp_path / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(lt.RunError, match="overwrite"):
        found.save(folder)
    assert found != lt.causal_trace("mini/attention", lt.load_task("antonym", n_shot=2, limit=3), corrupt="swap")


def test_the_table_has_a_row_for_every_cell(found: lt.CausalTrace) -> None:
    """Prompt, layer, position, role, token, and what was measured there."""
    table = found.to_pandas()
    assert len(table) == int(np.isfinite(found.restored_prob).sum())
    row = table.iloc[-1]
    assert row["restored_prob"] == found.restored_prob[row["prompt"], row["layer"], row["position"]]
    assert set(table["role"]) == {"last_subject", "last"}
    assert list(table["role"][table["position"] == table["position"].max()].unique()) == ["last"]


def test_samples_are_taken_in_any_form(model: lt.TracedModel) -> None:
    """Samples, dictionaries and a path are the same prompts; progress is told."""
    sample = {
        "prompt": "hot -> cold\nwide ->",
        "answer": " narrow",
        "subject": "wide",
        "contrast": "hot -> cold\nbig ->",
    }
    told: list[Progress] = []
    one = lt.causal_trace(model, [sample], corrupt="swap", min_total_effect=0.0, progress=told.append)
    same = lt.causal_trace(model, [lt.Sample(**sample)], corrupt="swap", min_total_effect=0.0)
    np.testing.assert_array_equal(one.restored_prob, same.restored_prob)
    assert told[-1].done == told[-1].total > 0


def test_a_folder_is_claimed_and_filled(model: lt.TracedModel, tmp_path: Path) -> None:
    """With `out` the result lies there; what lies there already is refused before anything is run."""
    task = lt.load_task("antonym", n_shot=2, limit=2)
    found = lt.causal_trace(model, task, corrupt="swap", out=tmp_path / "c")
    assert lt.load_causal(tmp_path / "c") == found
    with pytest.raises(lt.RunError, match="overwrite"):
        lt.causal_trace(model, task, corrupt="swap", out=tmp_path / "c")
    again = lt.causal_trace(model, task, corrupt="swap", seed=3, out=tmp_path / "c", overwrite=True)
    assert lt.load_causal(tmp_path / "c") == again


def test_what_was_finished_is_kept_where_it_is_stopped(model: lt.TracedModel, tmp_path: Path) -> None:
    """Ctrl-C leaves a record of what was finished, in the error and in the folder; the rest is listed as unfinished."""
    task = lt.load_task("antonym", n_shot=2, limit=4)

    def stop(progress: Progress) -> None:
        if progress.done > 0.6 * progress.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="interrupted after") as caught:
        lt.causal_trace(model, task, corrupt="swap", memory="2MiB", out=tmp_path / "c", progress=stop)
    kept = caught.value.record  # type: ignore[attr-defined]
    assert lt.load_causal(tmp_path / "c") == kept
    reasons = [one.reason for one in kept.excluded]
    assert set(reasons) <= {"unfinished"}
    assert np.isnan(kept.restored_prob[[one.prompt for one in kept.excluded]]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corrupt": "zero"}, "Unknown corrupt 'zero'"),
        ({"chat": "no"}, "chat cannot be .*Give True or False"),
        ({"window": 1.5}, "window must be a whole number"),
        ({"progress": 3}, "progress cannot be"),
    ],
)
def test_mistakes_have_one_clear_error(model: lt.TracedModel, settings: dict[str, object], message: str) -> None:
    """In the words of the call."""
    with pytest.raises(lt.LayerTracerError, match=message):
        lt.causal_trace(model, lt.load_task("antonym", n_shot=2, limit=2), **settings)  # type: ignore[arg-type]


def test_prompts_without_subjects_are_refused_with_their_reasons(model: lt.TracedModel) -> None:
    """Where none can be used, the error says why, and what would do."""
    with pytest.raises(lt.TaskError, match=r"None of 1 samples .*1 no_subject .*names no subject"):
        lt.causal_trace(model, [("hot -> cold\nwide ->", " narrow")])
