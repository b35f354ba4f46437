"""Copies of a record with other effects or other arrays: nothing is mixed, and nothing is lost without a word."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from layertracer import UsageError
from layertracer.runs import EffectRecord, TraceRecord

from tests.support.records.logit_records import named_record
from tests.support.records.sample_records import make_record

RECORD, OTHER = named_record(), named_record(seed=1)
FIRST, SECOND, THIRD = RECORD.effects.values()


def copied(*effects: EffectRecord, record: TraceRecord = RECORD, **changes: object) -> TraceRecord:
    """A copy of the record with other effects."""
    return dataclasses.replace(record, effects={str(n): one for n, one in enumerate(effects)}, **changes)  # type: ignore[arg-type]


def test_the_same_effects_give_the_same_record() -> None:
    """Effects under any keys, in their order, are those of the trace."""
    assert copied(FIRST, SECOND, THIRD) == RECORD


@pytest.mark.parametrize("effects", [(SECOND, FIRST, THIRD), (SECOND, SECOND, THIRD)])
def test_the_first_effect_is_of_the_first_perturbation(effects: tuple[EffectRecord, ...]) -> None:
    """An effect of another perturbation in the first place is refused: its rows would stand beside another's JS."""
    with pytest.raises(UsageError, match=r"'mlp_output' is of another perturbation .* in the order of spec"):
        copied(*effects)


def test_other_divergences_are_those_of_the_first_effect() -> None:
    """A copy with other `js_bits` has them in its first effect; what else that measured stays."""
    zero = np.zeros_like(RECORD.js_bits)
    first = dataclasses.replace(RECORD, js_bits=zero).effects["mixer_output"]
    assert np.array_equal(first.js_bits, zero)
    assert np.array_equal(first.rows["target_log_prob"], FIRST.rows["target_log_prob"])


def test_an_effect_that_was_changed_is_not_dropped() -> None:
    """Other divergences in the first effect alone contradict the record; with the same in both they are taken."""
    zero = np.zeros_like(RECORD.js_bits)
    changed = dataclasses.replace(FIRST, rows={**FIRST.rows, "js_bits": zero})
    with pytest.raises(UsageError, match=r"js_bits of the effect 'mixer_output' is not that of the record.*js_bits="):
        copied(changed, SECOND, THIRD)
    assert not copied(changed, SECOND, THIRD, js_bits=zero).effects["mixer_output"].js_bits.any()
    larger = dataclasses.replace(FIRST, dominant_ratio=FIRST.dominant_ratio + 1)
    with pytest.raises(UsageError, match="dominant_ratio of the effect 'mixer_output' is not that of the record"):
        copied(larger, SECOND, THIRD)


def test_effects_of_another_trace_are_refused() -> None:
    """The log-probabilities of one trace do not stand beside the clean ones of another."""
    with pytest.raises(UsageError, match="'mixer_output' is of another trace"):
        copied(*OTHER.effects.values())


def test_an_effect_of_the_divergence_alone_follows_the_record() -> None:
    """Where nothing else was measured, another specification or other divergences leave nothing behind."""
    record = make_record()
    spec = dataclasses.replace(record.spec, perturbation={**record.spec.perturbation, "site": "mlp_output"})
    assert list(dataclasses.replace(record, spec=spec).effects) == ["mlp_output"]
