"""Runs of several perturbations: compared by one that all have, with a note of what was and what was not compared."""

from __future__ import annotations

import dataclasses

import pytest

from layertracer import UsageError
from layertracer.runs import TraceRecord

from tests.comparisons.conftest import compare_fast
from tests.support.records.logit_records import named_record

SEVERAL = named_record(n_prompts=8, n_layers=6)
"""At mixer_output, mlp_output, and mlp_output with other draws."""


def only(key: str, record: TraceRecord = SEVERAL, name: str = "other") -> TraceRecord:
    """A run of one perturbation of a run of several."""
    effect = record.effects[key]
    return dataclasses.replace(
        record,
        model=dataclasses.replace(record.model, name=name, fingerprint="a" * 64),
        spec=dataclasses.replace(record.spec, perturbation=effect.perturbation, further_perturbations=()),
        js_bits=effect.js_bits,
        dominant_dimension=effect.dominant_dimension,
        dominant_ratio=effect.dominant_ratio,
        dominant_hit=effect.dominant_hit,
        effects={key: effect},
    )


def notes(record: TraceRecord, other: TraceRecord, **settings: str) -> list[str]:
    """What a comparison says of the site."""
    warnings = compare_fast([record, other], **settings).warnings
    return [text for text in warnings if "compared at" in text]


@pytest.mark.parametrize("key", ["mixer_output", "mlp_output"])
def test_what_all_have_is_compared(key: str) -> None:
    """The numbers are those of runs of that perturbation alone, whichever run has others, and the note names it."""
    one, other = only(key, name="one"), only(key)
    named = dataclasses.replace(SEVERAL, model=one.model)
    expected = compare_fast([one, other])
    found = compare_fast([named, other])
    assert found.to_frame().equals(expected.to_frame())
    assert found.spec.perturbation == other.spec.perturbation
    assert compare_fast([other, named]).to_frame().equals(compare_fast([other, one]).to_frame())
    (note,) = [text for text in found.warnings if "compared at" in text]
    assert f"compared at {key}, the first perturbation" in note
    rest = [name for name in SEVERAL.effects if name != key]
    assert note.endswith(f"Not compared: {', '.join(rest)} of one.")


def test_the_same_draws_are_compared() -> None:
    """Of two perturbations that differ in their draws alone, the one with the other run's draws is taken."""
    found = compare_fast([only("mlp_output#2"), SEVERAL])
    assert all(difference.value == 0 for pair in found.pairs for difference in pair.differences)
    assert found.models[0].mean_js == found.models[1].mean_js


def test_a_site_can_be_asked_for() -> None:
    """With a site, runs of the same sites are compared there, and not at the first."""
    (note,) = notes(SEVERAL, SEVERAL, site="mlp_output")
    assert "compared at mlp_output, which was asked for. Not compared: mixer_output, mlp_output#2 of" in note
    expected = compare_fast([only("mlp_output"), only("mlp_output")]).models[0].mean_js
    assert expected is not None
    assert compare_fast([SEVERAL, SEVERAL], site="mlp_output").models[0].mean_js == expected
    (note,) = notes(SEVERAL, SEVERAL)
    assert "compared at mixer_output" in note


def test_what_no_run_has_in_common_is_refused() -> None:
    """Without a common perturbation runs are refused as ever; a site that a run lacks is named, with those it has."""
    with pytest.raises(UsageError, match=r"perturbation site is 'mixer_output' in .*, 'mlp_output' in"):
        compare_fast([only("mixer_output"), only("mlp_output")])
    with pytest.raises(UsageError, match=r"no perturbation at the site 'mlp_output', only at mixer_output.*--site"):
        compare_fast([SEVERAL, only("mixer_output")], site="mlp_output")


def test_runs_of_one_perturbation_have_no_note() -> None:
    """Where there is nothing to choose, nothing is said."""
    assert not notes(only("mlp_output"), only("mlp_output"))
