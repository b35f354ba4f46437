"""Several perturbations and lenses in one report: each with its own answer, side by side."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from layertracer.reports import render_page, render_text, summarize, write_figures
from layertracer.reports._values.reproduce import command_line, python_code

from tests.support.records.logit_records import named_record
from tests.support.records.sample_records import HOSTILE_TEXTS, make_record

RECORD = named_record(n_prompts=10, n_layers=6)


def test_each_site_has_its_own_answer() -> None:
    """JSON has of every perturbation its curve, its vulnerable layer and its layer of the largest loss."""
    said = summarize(RECORD)["effects"]
    assert list(said) == ["mixer_output", "mlp_output", "mlp_output#2"]
    assert [one["vulnerable_layer"]["layer"] for one in said.values()] == [1, 2, 2]
    assert [one["largest_loss_layer"]["layer"] for one in said.values()] == [1, 2, 2]
    for key, one in said.items():
        effect = RECORD.effects[key]
        curve = np.array(one["curves"]["js_bits"], dtype=float)
        np.testing.assert_allclose(curve, effect.js_bits.mean(axis=(0, 1)), atol=1e-5)
        loss = RECORD.target_log_prob[:, -1][:, None, None] - effect.rows["target_log_prob"]
        lost = np.array(one["curves"]["target_log_prob_loss"], dtype=float)
        np.testing.assert_allclose(lost, loss.mean(axis=(0, 1)), atol=1e-4)
    assert said["mlp_output"]["layers_without_site"] == [0]
    json.dumps(summarize(RECORD), allow_nan=False)


def test_page_and_terminal_have_all_sites() -> None:
    """Page and terminal show every site with its layer, in the headline's words."""
    page, text = render_page(RECORD), render_text(RECORD, width=200, color=False)
    for shown in (page, text):
        assert "It breaks most easily at layer 1" in shown
        assert "20 % of the MLP output is masked" in shown
        assert "the target loses most at layer 1" in shown
    assert "JS divergence at the MLP output (2)" in text
    assert "Change of the target's log-probability, mixer output perturbed" in text
    assert "Target probability through the lens linear" in text
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids[1:6] == ["curves", "strips", "effects", "measures", "lenses"]


def test_the_headline_says_what_else_was_perturbed() -> None:
    """Page, terminal and JSON say beside the first site's answer which other sites there are; one site has none."""
    more = "Also perturbed: MLP output, MLP output (2) (see Sites)."
    assert summarize(RECORD)["sentence"].endswith(f". {more}")
    assert f"{more}</h1>" in render_page(RECORD)
    assert more in " ".join(render_text(RECORD, width=200, color=False).split())
    assert "Also perturbed" not in render_page(make_record())


def test_a_loss_that_is_largest_nowhere_is_said_in_words() -> None:
    """The row of a site whose loss stands out at no layer reads "largest loss at 0, not clear"."""
    first = RECORD.effects["mixer_output"]
    alike = np.broadcast_to(RECORD.target_log_prob[:, -1][:, None, None], first.js_bits.shape) - 0.5
    noise = 0.1 * np.random.default_rng(0).standard_normal(alike.shape)
    even = dataclasses.replace(first, rows={**first.rows, "target_log_prob": (alike - np.abs(noise)).astype("float32")})
    record = dataclasses.replace(RECORD, effects={**RECORD.effects, "mixer_output": even})
    found = even.largest_loss_layer
    assert found is not None
    assert not found.is_clear
    text = " ".join(render_text(record, width=80, color=False).split())
    assert f"largest loss at {found.layer}, not clear" in text
    assert "largest loss at none" not in text


def test_one_effect_without_loss_reads_as_before() -> None:
    """A run of one perturbation, of which the divergence alone is known, has no section of sites or lenses."""
    ids = re.findall(r'<section id="(\w+)"', render_page(make_record()))
    assert not {"effects", "measures", "lenses"} & set(ids)
    assert summarize(make_record())["effects"] == {}


def test_figures_for_a_paper(tmp_path: Path) -> None:
    """Sites, measures and lenses have a file each."""
    names = {path.name for path in write_figures(RECORD, tmp_path)}
    assert {"effects.svg", "measures.svg", "lenses.svg"} <= names


def test_it_can_be_run_again() -> None:
    """The Python code has every perturbation; a command where they differ in their sites alone, and no lens is read."""
    code = python_code(RECORD)
    assert "    perturbation=[\n        lt.Mask(" in code
    assert code.count("lt.Mask(") == 3
    assert "lens=[...],  # the lenses linear" in code
    compile(code, "code", "exec")
    assert command_line(RECORD) is None
    mask = dict(RECORD.spec.perturbation)
    alike = dataclasses.replace(
        RECORD.spec, perturbation=mask, further_perturbations=({**mask, "site": "state"},), lenses=()
    )
    effects = dict(zip("ab", [RECORD.effects["mixer_output"]] * 2, strict=True))
    effects["b"] = dataclasses.replace(effects["b"], perturbation=alike.further_perturbations[0])
    command = command_line(dataclasses.replace(RECORD, spec=alike, effects=effects, lenses={}))
    assert command is not None
    assert "--site mixer_output --site state --draws 5" in command


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_sites_are_text(text: str) -> None:
    """A site that tries to be markup, or to move a cursor, is shown as text."""
    first, second, third = RECORD.effects.values()
    spec = dataclasses.replace(
        RECORD.spec, further_perturbations=({**second.perturbation, "site": text}, third.perturbation)
    )
    effects = {"a": first, "b": dataclasses.replace(second, perturbation=spec.further_perturbations[0]), "c": third}
    record = dataclasses.replace(RECORD, spec=spec, effects=effects)
    page, shown = render_page(record), render_text(record, color=False)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
    assert "<img" not in page
    assert page.count("<script") == render_page(RECORD).count("<script")
