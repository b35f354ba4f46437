"""Runs that cannot be compared, and settings that make no sense."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from layertracer import UnknownNameError, UsageError
from layertracer._types import Mask
from layertracer.comparisons import ComparisonSettings, compare_records
from layertracer.runs import TraceRecord

from tests.comparisons.conftest import compare_fast
from tests.support.records.logit_records import named_record
from tests.support.records.model_records import make_model
from tests.support.records.sample_records import make_record


def _asking(record: TraceRecord, part: str, **changes: Any) -> TraceRecord:
    spec = record.spec
    if part == "spec":
        return dataclasses.replace(record, spec=dataclasses.replace(spec, **changes))
    values = dict(getattr(spec, part)) | changes
    return dataclasses.replace(record, spec=dataclasses.replace(spec, **{part: values}))


MISMATCHES = {
    "task name is 'antonym' in a, 'synonym' in b": ("task", {"name": "synonym"}),
    "task n_shot is 2 in a, 5 in b": ("task", {"n_shot": 5}),
    "task template": ("task", {"template": "{input}: {output}"}),
    "task chat": ("task", {"chat": True}),
    "target is 'answer' in a, 'model' in b": ("spec", {"target": "model"}),
    "target tokens is 'first' in a, 'all' in b": ("spec", {"target_tokens": "all"}),
    "perturbation site is 'mixer_output' in a, 'state' in b": ("perturbation", {"site": "state"}),
    "perturbation fraction is 0.2 in a, 0.5 in b": ("perturbation", {"fraction": 0.5}),
    "perturbation scheme": ("perturbation", {"scheme": "random"}),
    "perturbation fill": ("perturbation", {"fill": "mean"}),
    "perturbation positions": ("perturbation", {"positions": "last"}),
    "perturbation kind is 'mask' in a, 'noise' in b": ("perturbation", {"kind": "noise", "scale": 0.1}),
}


@pytest.mark.parametrize("message", MISMATCHES)
def test_different_questions_are_refused(message: str) -> None:
    """Runs that ask different questions are refused with what differs and what to do; asked to, they are compared."""
    part, changes = MISMATCHES[message]
    masked = Mask(site="mixer_output", draws=2).to_dict()
    first, second = (_asking(make_model(name, seed=seed), "perturbation", **masked) for seed, name in enumerate("ab"))
    records = [first, _asking(second, part, **changes)]
    with pytest.raises(UsageError, match="--allow-mismatch") as caught:
        compare_fast(records)
    assert message in str(caught.value)
    comparison = compare_fast(records, allow_mismatch=True)
    assert any(
        text.startswith("The runs do not ask the same question: ") and message in text for text in comparison.warnings
    )


@pytest.mark.parametrize(
    ("part", "changes", "warning"),
    [
        ("perturbation", {"seed": 3}, "seed of the perturbation is 0 in a, 3 in b"),
        ("task", {"sha256": "ab"}, "content of the task's file"),
        ("spec", {"onset": {"kind": "half_max"}}, "onset criterion"),
    ],
)
def test_smaller_differences_are_warned_of(part: str, changes: dict[str, Any], warning: str) -> None:
    """Differences that move numbers a little are in the warnings."""
    comparison = compare_fast([make_model("a"), _asking(make_model("b", seed=1), part, **changes)])
    assert any(warning in text for text in comparison.warnings)


def test_runs_that_say_the_same_have_no_warning() -> None:
    """Two whole runs of one question, with enough prompts, are compared without a word."""
    assert compare_fast([make_model("a"), make_model("b", seed=1)]).warnings == ()


def test_other_weights_types_interrupted_runs_and_few_prompts_are_warned_of() -> None:
    """What else a reader must know is said: types, interruptions, failed proofs, few prompts."""
    b = make_model("b", seed=1, n_prompts=5)
    check = dataclasses.replace(b.self_check.checks[0], passed=False)
    b = dataclasses.replace(
        b,
        model=dataclasses.replace(b.model, dtype="bfloat16"),
        self_check=dataclasses.replace(b.self_check, checks=(check,)),
        status="interrupted",
        n_requested=16,
    )
    text = " ".join(compare_fast([make_model("a"), b]).warnings)
    for part in (
        "type of the weights is 'float32' in a, 'bfloat16' in b",
        "The run of b is interrupted: 5 of 16 prompts.",
        "The self-check of b failed",
        "b has 5 prompts, fewer than 10",
        "a and b share 5 prompts, fewer than 8: their differences are unpaired",
    ):
        assert part in text


def test_one_run_is_refused() -> None:
    """A comparison needs two runs."""
    with pytest.raises(UsageError, match="at least two runs, got 1"):
        compare_records([make_model("a")])


def test_a_run_without_prompts_is_refused() -> None:
    """A run that failed before its first prompt is named and refused."""
    failed = make_record(n_prompts=0, status="failed", n_requested=8)
    with pytest.raises(UsageError, match=r"planted-135m has no finished prompt \(status 'failed'\)"):
        compare_records([make_model("a"), failed])


def test_divergences_in_other_units_are_refused() -> None:
    """Values above 1 are not JS divergences in bits."""
    loud = make_model("loud", seed=1)
    loud = dataclasses.replace(loud, js_bits=loud.js_bits + 1)
    with pytest.raises(UsageError, match="loud holds JS divergences outside"):
        compare_fast([make_model("a"), loud])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"n_resamples": 0}, "n_resamples must be at least 1"),
        ({"min_models": 2}, "One or two models never decide a claim"),
        ({"deep_depth": 1.5}, "deep_depth must be at least 0 and at most 0.999"),
        ({"min_shared": 1}, "min_shared must be at least 2"),
        ({"min_solved": -0.1}, "min_solved must be at least 0"),
        ({"onsets": ()}, "onsets is empty"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    """Each setting says what makes sense."""
    with pytest.raises(UsageError, match=message):
        ComparisonSettings(**settings)


@pytest.mark.parametrize("settings", [{"prompts": "solvd"}, {"families": "mixer"}])
def test_unknown_names_are_refused(settings: dict[str, Any]) -> None:
    """An unknown rule gets near matches."""
    with pytest.raises(UnknownNameError, match="Did you mean"):
        ComparisonSettings(**settings)


def test_runs_of_several_perturbations_are_compared_by_the_first() -> None:
    """Further perturbations change nothing in a comparison; a first one at another site is refused as ever."""
    several = named_record(n_prompts=8, n_layers=6)
    spec = dataclasses.replace(several.spec, further_perturbations=(), lenses=())
    first = dataclasses.replace(
        several, spec=spec, effects={"a": next(iter(several.effects.values()))}, lenses={}, measures={}
    )
    other = dataclasses.replace(first, model=dataclasses.replace(first.model, name="other", fingerprint="a" * 64))
    assert compare_fast([several, other]).to_frame().equals(compare_fast([first, other]).to_frame())
    elsewhere = dict(first.spec.perturbation) | {"site": "state"}
    moved = dataclasses.replace(other, spec=dataclasses.replace(spec, perturbation=elsewhere), effects={})
    with pytest.raises(UsageError, match="perturbation site"):
        compare_records([several, moved])
