"""What reports say of layers that do not stand out, of few prompts, and of small numbers."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pytest

from layertracer._types import Mask
from layertracer.measures import FirstTop1, Ratio, Rise
from layertracer.reports import render_text, summarize, summary_sentence
from layertracer.reports._page import render_page
from layertracer.reports._sections.content import figure_data
from layertracer.reports._sections.curves import draw_curves
from layertracer.reports._sections.order import list_sections
from layertracer.reports._sections.tables import layer_table
from layertracer.reports._values.overview import build_overview
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord, read_run, save_run

from tests.support.records.sample_records import make_record


def _even(record: TraceRecord) -> TraceRecord:
    """The same with layers that perturb alike but for noise."""
    js = 0.3 + 0.05 * np.random.default_rng(0).standard_normal(record.js_bits.shape)
    return dataclasses.replace(record, js_bits=np.clip(js, 0, 1))


def _silent(record: TraceRecord) -> TraceRecord:
    """The same with an answer that stays at a probability of 6e-6 at most."""
    return dataclasses.replace(record, target_log_prob=np.minimum(record.target_log_prob, -12))


def _in_sets(record: TraceRecord, n_sets: int) -> TraceRecord:
    """The same with prompts that take turns with sets of demonstrations."""
    prompts = tuple(
        dataclasses.replace(prompt, demonstration_set=place % n_sets) for place, prompt in enumerate(record.prompts)
    )
    return dataclasses.replace(record, prompts=prompts)


def test_no_part_of_a_report_names_a_layer_that_does_not_stand_out() -> None:
    """Terminal, page, tile, captions and marks agree: no layer is the vulnerable one, and another site is advised."""
    record = _even(make_record(10, 12, perturbation=Mask(site="block_output").to_dict()))
    vulnerable = record.vulnerable_layer
    assert not vulnerable.is_clear
    text, page = render_text(record, width=200, color=False), render_page(record)
    for shown in (text, page):
        assert f"vulnerable layer {vulnerable.layer}" not in shown
        assert "no layer stands out" in shown
        assert "--site mixer_output or --site mlp_output" in shown
        assert "none clear" in shown
    overview = build_overview(record)
    figure = draw_curves(record, overview, n_lines=10)
    labels = [one["text"] for one in figure["layout"]["annotations"]]
    assert f"largest at {vulnerable.layer}, not clear" in labels
    sections = {section.id: section for section in list_sections(record, overview, has_figures=True)}
    for name in ("curves", "strips"):
        assert "no layer stands out as the most vulnerable" in sections[name].alt
    assert "None stands out." in sections["curves"].lead


def test_a_layer_that_stands_out_is_named_everywhere() -> None:
    """Terminal, page and marks name it, say that it is the first one, and advise nothing."""
    record = make_record(10, 12)
    assert record.vulnerable_layer.contenders == (0,)
    text = render_text(record, width=200, color=False)
    assert "Vulnerable layer 0 of 0–11, the first one" in text
    assert "--site" not in text
    labels = [one["text"] for one in draw_curves(record, build_overview(record), n_lines=3)["layout"]["annotations"]]
    assert "vulnerable layer 0" in labels


def test_intervals_of_one_set_of_demonstrations_are_said_to_be() -> None:
    """With one set the reader is told that intervals hold for it; with several, that sets are resampled."""
    record = make_record(16, 12)
    asked = dataclasses.replace(record.spec, task=dict(record.spec.task) | {"n_shot": 5})
    record = dataclasses.replace(record, spec=asked)
    assert "intervals hold for these demonstrations only" in render_text(record, width=200, color=False)
    text = render_text(_in_sets(record, 8), width=200, color=False)
    assert "Intervals resample 8 sets of demonstrations" in text
    assert "these demonstrations only" not in text


def test_few_prompts_and_few_sets_are_said() -> None:
    """What must be known of an interval stands beside it."""
    few = render_text(make_record(6, 12).select([0, 1, 2, 3, 5]), width=200, color=False)
    assert "Task particle: 5 prompts: below 8 an interval may hold less often than it says." in few
    sets = render_text(_in_sets(make_record(16, 12), 2), width=200, color=False)
    assert "Task particle: 2 sets of demonstrations: no interval below 5." in sets


def test_sets_of_demonstrations_are_stored(tmp_path: Path) -> None:
    """A run keeps which set each prompt begins with; a run without sets keeps nothing and loads as before."""
    record = _in_sets(make_record(16, 12), 8)
    save_run(record, tmp_path / "sets")
    assert read_run(tmp_path / "sets") == record
    save_run(make_record(4, 12), tmp_path / "none")
    assert read_run(tmp_path / "none").sampling.units is None


def test_sets_move_the_interval_and_not_the_answer() -> None:
    """The answers are those of all prompts; their intervals are those of the sets."""
    record = make_record(16, 12)
    together = _in_sets(record, 6)
    assert together.task_particle.layer == record.task_particle.layer
    assert together.vulnerable_layer.mean_js_bits == record.vulnerable_layer.mean_js_bits
    assert together.sampling.units == tuple(place % 6 for place in range(16))
    assert (
        together.task_particle.note == "6 sets of demonstrations: below 8 an interval may hold less often than it says"
    )


def test_rounding_does_not_fill_a_plot() -> None:
    """An answer of 6e-6 at most is drawn on an axis up to delta, in curves, strips and terminal."""
    record = _silent(make_record(10, 12, onset=Rise(delta=0.08).to_dict()))
    overview = build_overview(record)
    layout = draw_curves(record, overview, n_lines=3)["layout"]
    assert layout["yaxis"]["range"] == [0, 0.08]
    assert layout["yaxis2"].get("range") is None
    assert overview.strips[0].scale == 0.08
    gains = render_text(record, width=200, color=False).split("Gain in target probability")[1].splitlines()[1]
    assert set(gains) <= {"·", " "}


@pytest.mark.parametrize(("onset", "parameter"), [(Ratio(), "first_layer"), (FirstTop1(), None)])
def test_other_criteria_sweep_their_own_parameter(onset: Ratio | FirstTop1, parameter: str | None) -> None:
    """The panel varies the parameter of the criterion that was used; without one there is no panel, and it says so."""
    record = make_record(10, 12, onset=onset.to_dict())
    overview = build_overview(record)
    sections = {section.id: section for section in list_sections(record, overview, has_figures=True)}
    figures = figure_data(record, overview, Budget.for_record(record))["figures"]
    assert ("sensitivity" in sections) == ("sensitivity" in figures) == (parameter is not None)
    if parameter is None:
        assert overview.sensitivity == "first_top1 has no parameter to vary."
    else:
        assert f"the sweep varies its {parameter}." in sections["sensitivity"].lead


def _shown_curves(record: TraceRecord) -> tuple[str, set[str], bool]:
    """What a page says of the curves: how to read them, the cells of the probability's interval, its band drawn."""
    overview = build_overview(record)
    sections = {section.id: section for section in list_sections(record, overview, has_figures=True)}
    cells = {row[3] for row in layer_table(record, overview).rows}
    return sections["curves"].lead, cells, bool(np.isfinite(overview.target.low).any())


@pytest.mark.parametrize("n_prompts", [2, 3, 4])
def test_two_to_four_prompts_have_no_band_of_probability(n_prompts: int) -> None:
    """Below five prompts a mean curve of probabilities has no band, no ends in the table, and the caption says why."""
    lead, cells, has_band = _shown_curves(make_record(n_prompts, 12))
    assert f"above without interval, below with its 95 % one over prompts and draws ({n_prompts} prompts: " in lead
    assert (cells, has_band) == ({"–"}, False)


def test_sets_of_demonstrations_that_were_left_over_have_no_band() -> None:
    """Thirty prompts behind the one set that an interrupted run finished have no interval; five sets have one."""
    left = _in_sets(make_record(30, 12), 1)
    lead, cells, has_band = _shown_curves(left)
    assert "Bold: mean, no interval (one set of demonstrations: no interval)." in lead
    assert (cells, has_band) == ({"–"}, False)
    lead, cells, has_band = _shown_curves(_in_sets(make_record(30, 12), 5))
    assert "Bold: mean, with its 95 % interval (above over prompts, below over prompts and draws)." in lead
    assert ("–" in cells, has_band) == (False, True)


def test_few_random_masks_are_said_on_every_surface() -> None:
    """Five random masks name no layer in sentence, tile, terminal and page; whole partitions or more are advised."""
    record = make_record(10, 12, perturbation=Mask(scheme="random", draws=5).to_dict())
    assert not record.vulnerable_layer.is_clear
    for shown in (render_text(record, width=400, color=False), render_page(record)):
        assert "5 random draws cannot tell layers apart" in shown
        assert "below 10 a dimension that decides may not have been masked" in shown
        assert "whole partitions (--scheme partition) or more draws (--draws 10)" in shown
        assert "breaks most easily" not in shown


@pytest.mark.parametrize(("n_prompts", "n_draws"), [(1, 5), (8, 1), (8, 5)])
def test_the_only_layer_that_was_perturbed_is_said_to_be_that(n_prompts: int, n_draws: int) -> None:
    """Where one layer has the site, none "comes near" and nothing holds "at 95 %": it is the only one perturbed."""
    record = make_record(n_prompts, 6, n_draws, missing=(0, 1, 2, 4, 5))
    vulnerable = record.vulnerable_layer
    assert vulnerable.is_clear == ((n_prompts, n_draws) == (8, 5))
    for shown in (render_text(record, width=400, color=False), render_page(record)):
        assert "the only layer that was perturbed" in shown
        assert "comes near" not in shown
        assert "only contender" not in shown


def test_a_particle_that_resamples_do_not_find_is_said_on_every_surface() -> None:
    """Where one prompt of twelve makes the rise, sentence, tile, page and note say how many resamples find none."""
    record = make_record(12, 12)
    prob = np.full((12, 12), 0.01)
    prob[0, 5:] = 0.6
    record = dataclasses.replace(record, target_log_prob=np.log(prob), embedding_log_prob=np.full(12, np.log(0.01)))
    particle = record.task_particle
    assert (particle.layer, particle.interval) == (5, None)
    lost = f"in {100 * (1 - particle.interval_share_found):.0f} % of resamples there is none"
    assert f"layer 5 of 0–11 (no interval: {lost}, found on 8 % of 12 prompts)" in summary_sentence(record)
    overview = build_overview(record)
    assert f"no interval: {lost}" in overview.tiles[0].details
    assert f"Task particle: {lost}: no interval." in overview.surety
    assert render_text(record, width=400, color=False).count(lost) == 3
    page = " ".join(re.sub(r"<[^>]+>", " ", html.unescape(render_page(record)).replace("\xa0", " ")).split())
    assert page.count(lost) >= 2
    assert summarize(record)["task_particle"]["note"] == f"{lost}: no interval"


def test_a_threshold_that_decides_nothing_is_said_on_every_surface() -> None:
    """Where the sigma rule finds the layer, terminal, page and JSON say so, and which layer delta alone finds."""
    record = make_record(8, 12)
    prob = np.tile(0.01 + 0.02 * np.clip(np.arange(12) - 4, 0, 4), (8, 1))
    prob[:, 9:] = 0.8
    record = dataclasses.replace(record, target_log_prob=np.log(prob), embedding_log_prob=np.full(8, np.log(0.01)))
    note = "found by the sigma rule: delta does not bear on it; by delta alone: layer 9"
    assert record.task_particle.layer == 5
    for shown in (render_text(record, width=400, color=False), render_page(record)):
        assert f"Layer 5 throughout (delta 0.03 to 0.08), {note}." in shown
        assert "at every value that finds one" not in shown
    assert summarize(record)["sensitivity_note"] == note
