"""Traces that stop once a layer is certified: on a planted model, against plain hooks, and under every way to stop."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer._errors import DamagedRunError, TaskError, UnknownNameError, UsageError
from layertracer.reports import render_text, summarize
from layertracer.reports._page import render_page
from layertracer.runs import HEADER_FILE, read_run

from tests.runs.alterations import contents, with_header, write_files
from tests.support.models.planted import ANSWER, KEYS, N_TOKENS, WRONG_TOKEN, PlantedModel, planted_answer
from tests.support.oracles.plain_hooks import plain_js
from tests.support.tiny import tiny

FRAGILE = 1
SURE = 1 - 1e-9
"""So sure that 24 rounds never are enough."""
STREAM_SITES = ("mixer_output", "mlp_output", "block_output")


def planted_samples(n_prompts: int, *, seed: int = 0) -> list[lt.Sample]:
    """Random prompts of two lengths with the answers that were built in."""
    generator = np.random.default_rng(seed)
    prompts = [tuple(generator.integers(1, N_TOKENS, size=4 + number % 2).tolist()) for number in range(n_prompts)]
    return [lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in prompts]


def certified(samples: Sequence[lt.Sample], **asked: Any) -> lt.Trace:
    """A certified trace of the planted model."""
    asked = {"perturbation": "mixer_output", "seed": 3} | asked
    return lt.trace(tiny("planted"), samples, until="certified", **asked)


@pytest.mark.parametrize("site", STREAM_SITES)
def test_the_fragile_layer_is_certified_in_fewer_cells(site: str) -> None:
    """The one layer whose masking destroys the output is named, as a whole trace names it, before all is read."""
    samples = planted_samples(40)
    trace, whole = certified(samples, perturbation=site), lt.trace(tiny("planted"), samples, perturbation=site)
    found = trace.certificate
    assert found is not None
    assert (found.layer, found.ending) == (whole.vulnerable_layer.layer, "certified") == (FRAGILE, "certified")
    assert found.n_total == whole.js_bits.size
    assert found.n_cells < found.n_total / 2
    assert found.n_rounds < 40
    assert trace.status == "complete"
    assert trace.vulnerable_layer.layer == FRAGILE
    assert trace.n_prompts == found.n_whole == min(found.rounds_by_layer)
    mean, low, high = found.mean_js_bits[FRAGILE], found.low_js_bits[FRAGILE], found.high_js_bits[FRAGILE]
    assert mean is not None
    assert low is not None
    assert high is not None
    assert 0 < low < mean < high <= 1


def test_every_prompt_has_masks_of_its_own_and_they_are_what_is_measured() -> None:
    """A round is the mean divergence over a prompt's own partition of the dimensions, as plain hooks measure it."""
    samples, module = planted_samples(20), PlantedModel()
    trace = lt.trace(lt.wrap_model(module), samples, perturbation="block_output", until="certified", audit=1.0, seed=3)
    found, mask = trace.certificate, lt.Mask(site="block_output")
    assert found is not None
    for place in (0, 5, 11):
        prompt = found.order[place]
        for layer in (0, FRAGILE, 4):
            keep = mask.keep_of_prompt(prompt, layer=layer, width=trace.model.d_model)
            assert keep.sum(axis=0).tolist() == [4] * trace.model.d_model
            masks = np.ones((trace.n_layers, 5, trace.model.d_model), dtype=bool)
            masks[layer] = keep
            ids = samples[prompt].prompt_ids
            assert ids is not None
            oracle = plain_js(module, "blocks", ids, keep=masks, only=[layer])[:, layer].mean()
            assert found.js_bits[layer][place] == pytest.approx(oracle, abs=2e-6)
    assert not np.array_equal(*(mask.keep_of_prompt(prompt, layer=0, width=30) for prompt in found.order[:2]))


def test_rounds_depend_on_neither_batches_nor_memory_nor_order() -> None:
    """What is observed of a prompt is the same in passes of any size; the seed draws the order alone."""
    samples = planted_samples(40)
    one, tight, other = certified(samples), certified(samples, memory="48MB"), certified(samples, seed=4)
    assert one.certificate is not None
    assert tight.certificate is not None
    assert other.certificate is not None
    assert one.certificate.order == tight.certificate.order != other.certificate.order
    for layer in range(one.n_layers):
        assert one.certificate.js_bits[layer] == pytest.approx(tight.certificate.js_bits[layer], abs=2e-6)
        told = dict(zip(other.certificate.order, other.certificate.js_bits[layer], strict=False))
        for prompt, observed in zip(one.certificate.order, one.certificate.js_bits[layer], strict=False):
            assert observed == pytest.approx(told.get(prompt, observed), abs=2e-6)
    assert certified(samples).certificate == one.certificate


@cache
def twice_fragile() -> lt.TracedModel:
    """The planted model with a second layer that is fragile, less so: it is out later than the others."""
    module: Any = PlantedModel()
    second, following = module.blocks[3], module.blocks[4].mlp
    with torch.no_grad():
        for pair in range(14):
            ends = KEYS + 2 * pair, KEYS + 2 * pair + 1
            second.mixer.value.bias[ends[0]] += 1.0
            second.mlp.write.bias[ends[1]] += 1.0
            for unit, sign in ((2 * pair, 1.0), (2 * pair + 1, -1.0)):
                following.read.weight[unit, ends[0]], following.read.weight[unit, ends[1]] = sign, -sign
                following.write.weight[ANSWER + WRONG_TOKEN, unit] = 1.0
            for end in ends:
                following.write.bias[end] -= 1.0
    return lt.wrap_model(module)


def test_the_tables_are_the_prompts_that_all_layers_have() -> None:
    """Layers are dropped one after the other; prompts stand in the task's order, with the numbers of the rounds."""
    samples = planted_samples(120)
    trace = lt.trace(twice_fragile(), samples, perturbation="mixer_output", until="certified", seed=3)
    found = trace.certificate
    assert found is not None
    assert found.layer == FRAGILE
    assert found.rounds_by_layer[3] == found.n_rounds > found.n_whole == found.rounds_by_layer[5]
    assert found.n_cells == 5 * sum(found.rounds_by_layer)
    whole = sorted(found.order[: found.n_whole])
    assert [prompt.prompt_ids for prompt in trace.prompts] == [samples[number].prompt_ids for number in whole]
    place = {number: row for row, number in enumerate(whole)}
    rows = [place[number] for number in found.order[: found.n_whole]]
    observed = trace.js_bits.astype(np.float64).mean(axis=1)[rows]
    for layer in range(trace.n_layers):
        assert observed[:, layer].tolist() == list(found.js_bits[layer][: found.n_whole])
    assert [trace.task_particle.per_prompt[row] for row in rows] == list(found.particles[: found.n_whole])
    assert not trace.dominant.is_known
    assert trace.sampling.draws == trace.effects["mixer_output"].sampling.draws == "given"
    assert f"the {found.n_whole} prompts that were measured in all layers, of {found.n_rounds}" in trace.warnings[-1]


def test_a_budget_is_never_exceeded() -> None:
    """A trace ends before a block that its budget has no room for, and says what is still possible."""
    cells_of_prompt = 6 * 5
    for budget in (cells_of_prompt, 3 * cells_of_prompt + 1, 9 * cells_of_prompt):
        found = certified(planted_samples(80), budget=budget, confidence=SURE).certificate
        assert found is not None
        assert found.n_cells == budget // cells_of_prompt * cells_of_prompt
        assert (found.layer, found.ending, found.budget) == (None, "budget", budget)
        assert FRAGILE in found.contenders


def test_noise_and_skipped_layers_are_certified_too() -> None:
    """Noise is drawn anew for every prompt and audited; a skipped layer has one draw, and nothing random."""
    samples = planted_samples(40)
    noise = certified(samples, perturbation=lt.Noise(scale=0.5, draws=2, site="block_output"), audit=1.0)
    assert noise.audit is not None
    assert noise.audit.worst_bits is not None
    assert noise.audit.worst_bits < 1e-5
    assert noise.certificate is not None
    skip = certified(samples, perturbation=lt.Skip())
    assert skip.certificate is not None
    assert skip.certificate.n_total == 40 * 6


def test_what_cannot_be_certified_is_refused_before_anything_runs() -> None:
    """Rounds must be independent draws of one thing, and enough of them."""
    samples, model = planted_samples(10), tiny("planted")
    with pytest.raises(TaskError, match=r"needs 7 prompts or more .* got 6"):
        lt.trace(model, samples[:6], until="certified")
    with pytest.raises(UsageError, match="takes one perturbation, got 2"):
        lt.trace(model, samples, until="certified", perturbation=["mixer_output", "block_output"])
    with pytest.raises(UsageError, match="filled with zero"):
        lt.trace(model, samples, until="certified", perturbation=lt.Mask(site="block_output", fill="mean"))
    with pytest.raises(UsageError, match="budget=29 is less than one prompt takes: 30 cells, 6 layers with 5 draws"):
        lt.trace(model, samples, until="certified", budget=29)
    with pytest.raises(UsageError, match="confidence must be between 0 and 1, got 95"):
        lt.trace(model, samples, until="certified", confidence=95)
    with pytest.raises(UsageError, match='Give until="certified" with them'):
        lt.trace(model, samples, budget=300)
    with pytest.raises(UnknownNameError, match="certain"):
        lt.trace(model, samples, until="certain")  # type: ignore[arg-type]  # what somebody may write


def test_what_was_read_before_ctrl_c_is_kept_with_its_certificate() -> None:
    """A trace stopped by hand has the rounds of whole blocks, and what is certain of them."""

    def stop(progress: Any) -> None:
        if progress.done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        certified(planted_samples(60), confidence=SURE, progress=stop)
    record = caught.value.record  # type: ignore[attr-defined]  # it carries what was finished
    assert record.status == "interrupted"
    assert record.certificate.ending == "stopped"
    assert 16 <= record.certificate.n_rounds <= 24
    assert record.n_prompts == record.certificate.n_whole >= 16


def test_a_trace_of_all_prompts_is_what_it_was() -> None:
    """Without until there is no certificate, not even an empty one, in record, JSON and header."""
    trace = lt.trace(tiny("planted"), planted_samples(8), perturbation="mixer_output")
    assert trace.certificate is None
    assert "certificate" not in summarize(trace)
    assert trace.warnings == ()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certified run in a folder."""
    return certified(planted_samples(60)).save(tmp_path_factory.mktemp("certified") / "run")


def test_a_certificate_comes_back_and_is_verified(stored: Path) -> None:
    """What is stored is what was made, and follows from the observations beside it."""
    trace = certified(planted_samples(60))
    loaded = lt.load_run(stored)
    assert loaded.certificate == trace.certificate
    assert lt.verify_run(stored).is_intact
    assert not any("selected" in note for note in lt.verify_run(stored).notes)
    assert loaded.select([0, 1]).certificate == trace.certificate
    header = json.loads((stored / HEADER_FILE).read_text())
    assert header["certificate"]["layer"] == FRAGILE


def test_what_a_header_says_is_certain_is_not_believed(stored: Path, tmp_path: Path) -> None:
    """A layer written into it is read as what the observations say, and told by verify."""
    files = with_header(contents(stored), lambda header: header["certificate"].update(layer=4))
    run = write_files(files, tmp_path / "run")
    loaded = lt.load_run(run)
    assert loaded.certificate is not None
    assert loaded.certificate.layer == FRAGILE
    found = lt.verify_run(run)
    assert "certificate.layer is 4" in found.faults[0].reason


def test_observations_that_the_tables_deny_are_told(stored: Path, tmp_path: Path) -> None:
    """Rounds that were made up do not have the means of the tables."""

    def change(header: dict[str, Any]) -> None:
        observed = header["certificate"]["js_bits"][FRAGILE]
        observed[0] = observed[0] / 2

    run = write_files(with_header(contents(stored), change), tmp_path / "run")
    reasons = [fault.reason for fault in lt.verify_run(run).faults]
    assert reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda own: own["js_bits"][FRAGILE].__delitem__(slice(None)), "empty at other layers"),
        (lambda own: own["js_bits"][0].append(0.1), "as many rounds"),
        (lambda own: own["order"].__setitem__(0, own["order"][1]), "different prompts"),
        (lambda own: own["particles"].__setitem__(0, 77), "beyond 5"),
        (lambda own: own.update(confidence=1.5), "confidence"),
        (lambda own: own.update(js_bits=[own["js_bits"][0][:3], *own["js_bits"][1:]], n_whole=3), "in round 3"),
        (lambda own: own["js_bits"].pop(), "observations of 6 layers"),
    ],
)
def test_a_certificate_that_cannot_be_is_refused(stored: Path, tmp_path: Path, change: Any, reason: str) -> None:
    """Observations that no trace can have written make a run that is not read."""
    run = write_files(with_header(contents(stored), lambda header: change(header["certificate"])), tmp_path / "run")
    with pytest.raises(DamagedRunError, match=reason):
        lt.load_run(run)


def test_terminal_page_and_json_say_the_certificate_first(stored: Path, tmp_path: Path) -> None:
    """The layer, the confidence, and how many cells of how many; the commands run it again."""
    trace = lt.load_run(stored)
    found = trace.certificate
    assert found is not None
    title = (
        f"Layer {FRAGILE} is the most vulnerable, certified at 95 % after {found.n_cells:,} of {found.n_total:,} cells"
    )
    text = " ".join(render_text(trace, color=False).split())
    assert f"NOTE: {title}." in text
    page = trace.report(tmp_path / "report.html").read_text()
    assert title in page
    assert "until=&#34;certified&#34;" in page
    summary = summarize(trace)["certificate"]
    assert (summary["layer"], summary["n_cells"]) == (FRAGILE, found.n_cells)
    open_one = certified(planted_samples(80), budget=90)
    text = " ".join(render_text(open_one, color=False).split())
    assert "No layer could be certified within the budget (90 of 2,400 cells); still possible at 95 %: 0–5" in text


def test_copies_of_a_prompt_are_no_further_rounds() -> None:
    """Prompts that are given fifteen times over are read once, with the numbers of once, and the copies are told."""
    samples = planted_samples(36)
    once, often = certified(samples, confidence=SURE), certified(samples * 15, confidence=SURE)
    assert once.certificate is not None
    assert once.certificate == often.certificate
    assert (often.certificate.n_rounds, often.certificate.n_prompts) == (36, 36)
    assert often.certificate.n_total == 36 * 5 * 6
    assert often.n_requested == 36
    told = "504 of 540 prompts are copies of another one and were left out: each is read once."
    assert told in often.warnings
    assert not any("copies" in warning for warning in once.warnings)
    assert told in " ".join(render_text(often, color=False).split())


def test_prompts_that_differ_in_their_answers_alone_are_copies() -> None:
    """The divergence is of the prompt; the first of them is read, and further ones keep their own numbers."""
    samples = planted_samples(10)
    others = [lt.Sample(prompt_ids=one.prompt_ids, answer_id=0) for one in samples[:4]]
    trace = certified([*samples[:4], *others, *samples[4:]])
    assert trace.certificate is not None
    assert [prompt.prompt_ids for prompt in trace.prompts] == [sample.prompt_ids for sample in samples]
    assert trace.certificate.n_prompts == 10


def test_too_few_different_prompts_are_refused() -> None:
    """Copies do not make enough of them."""
    with pytest.raises(TaskError, match=r"got 6 \(copies of a prompt count once\)"):
        certified(planted_samples(6) * 20)


def test_a_trace_of_all_prompts_reads_copies_too() -> None:
    """Nothing is left out where the list itself is what is measured."""
    assert lt.trace(tiny("planted"), planted_samples(4) * 2, perturbation="mixer_output").n_prompts == 8


def test_reports_say_that_masks_are_each_prompts_own_where_they_are() -> None:
    """Random masks and noise are no part of a shared draw; skipped layers are not random."""
    samples = planted_samples(20)
    asked = {
        "mixer_output": "Masks are each prompt's own, drawn with it: intervals resample prompts, and with them their "
        "masks.",
        lt.Noise(draws=2, site="block_output"): "Noise is each prompt's own",
        lt.Skip(): "Nothing about the perturbation is random, so intervals are over prompts alone.",
    }
    for perturbation, said in asked.items():
        text = " ".join(render_text(certified(samples, perturbation=perturbation), color=False).split())
        assert said in text
        assert ("Nothing about the perturbation is random" in text) == isinstance(perturbation, lt.Skip)
        assert ("each with draws of its own" in text) != isinstance(perturbation, lt.Skip)


def test_masks_that_were_given_are_not_said_to_be_each_prompts_own() -> None:
    """The same masks for all prompts are no draws."""
    keep = np.zeros((6, 1, tiny("planted").anatomy.d_model), dtype=bool)
    trace = certified(planted_samples(20), perturbation=lt.Mask.explicit(keep, site="mixer_output"))
    text = " ".join(render_text(trace, color=False).split())
    assert "in an order drawn by the seed. The statement" in text
    assert "Nothing about the perturbation is random" in text


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "draws of, and holds"),
        ({"n_shot": 0, "template": "t"}, "draws of, for this template (it says nothing of others), and holds"),
        ({"n_shot": 5, "template": "t"}, "draws of, for these demonstrations and this template (it says"),
        (
            {"n_shot": 5, "template": "t", "demonstration_sets": 8},
            "for these 8 sets of demonstrations and this template (it says nothing of others)",
        ),
        (
            {"n_shot": 5, "templates": ["a", "b", "c"], "demonstration_sets": 2},
            "for these 2 sets of demonstrations and these 3 templates (it says",
        ),
    ],
)
def test_the_certificate_is_of_the_sets_and_templates_given(task: dict[str, Any], said: str, stored: Path) -> None:
    """In the right number, in terminal and page."""
    record = read_run(stored)
    record = dataclasses.replace(record, spec=dataclasses.replace(record.spec, task=task))
    for shown in (render_text(record, color=False), render_page(record)):
        assert said in " ".join(shown.split())


def test_where_no_layer_was_dropped_only_the_number_of_prompts_is_told() -> None:
    """All that was read is in the tables then."""
    trace = certified(planted_samples(36), confidence=SURE)
    assert trace.certificate is not None
    assert trace.certificate.n_whole == trace.certificate.n_rounds == 36
    assert trace.warnings[-1].startswith("How many prompts were read (36) was not fixed beforehand, so that")
    assert not any("All but the certificate" in warning for warning in trace.warnings)


def test_a_comparison_with_a_whole_trace_has_a_warning() -> None:
    """One sentence for all certified runs; none where all runs are whole."""
    samples = planted_samples(20)
    whole, stopped = lt.trace(tiny("planted"), samples, perturbation="mixer_output"), certified(samples)
    said = [one for one in lt.compare([whole, stopped]).warnings if "certified" in one]
    assert len(said) == 1
    assert "traced until a layer was certified: each prompt has masks or noise of its own there" in said[0]
    assert not any("certified" in one for one in lt.compare([whole, whole]).warnings)
