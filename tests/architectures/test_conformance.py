"""Every family of the installed transformers, and variants of some, held against independent oracles."""

from __future__ import annotations

from functools import cache

import pytest
import transformers

from tests.support.conformance.cases import (
    MECHANISMS,
    NOT_SHARED,
    REFUSED,
    VARIANTS,
    Case,
    all_cases,
    default_cases,
    long_cases,
)
from tests.support.conformance.examination import FULL, QUICK, Extent, Verdict, examine
from tests.support.conformance.long_examination import PAD, LongVerdict, examine_long, long_readings
from tests.support.conformance.page import PAGE, differences, page_of, transformers_of
from tests.support.models.families import FAMILIES
from tests.support.models.long_settings import ORIGINAL_CONTEXT, REACH


@cache
def verdict_of(case: Case, extent: Extent) -> Verdict:
    """One examination, for all tests of a case."""
    return examine(case, extent)


@cache
def long_verdict_of(case: Case) -> LongVerdict:
    """Likewise with long prompts."""
    return examine_long(case)


def label(case: Case) -> str:
    """The name of a test."""
    return case.label


def check_numbers(verdict: Verdict) -> None:
    """Nothing that is measured is wrong; what is refused is refused for the reason that is written down."""
    assert verdict.faults == ()
    assert (verdict.refusal is not None) == (verdict.case.label in REFUSED)


@pytest.mark.parametrize("case", default_cases(), ids=label)
def test_a_family_of_every_mechanism_is_read_rightly(case: Case) -> None:
    """Layers, readouts, divergences and sites are the oracles', or the model is refused."""
    check_numbers(verdict_of(case, QUICK))


@pytest.mark.parametrize("case", default_cases(), ids=label)
def test_a_family_of_every_mechanism_is_named_rightly(case: Case) -> None:
    """Every layer's mixer and MLP are what a reader of the source calls them."""
    assert verdict_of(case, QUICK).misnamed == ()


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=label)
def test_every_family_is_read_rightly(case: Case) -> None:
    """Layers, readouts, divergences and sites are the oracles', or the model is refused: none is silently wrong."""
    check_numbers(verdict_of(case, FULL))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in all_cases() if not case.encoder_decoder], ids=label)
def test_every_decoder_shares_prefixes_or_is_known_not_to(case: Case) -> None:
    """Prompts that begin alike are read on from what the model remembers, except in families that are written down."""
    verdict = verdict_of(case, FULL)
    if verdict.refusal is None and case not in VARIANTS:
        assert bool(verdict.not_shared) == (case.name in NOT_SHARED), verdict.not_shared


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=label)
def test_every_family_is_named_rightly(case: Case) -> None:
    """Every layer's mixer and MLP are what a reader of the source calls them."""
    verdict = verdict_of(case, FULL)
    assert verdict.misnamed == ()
    assert verdict.is_read, f"{case.label} is new: read its source and add it to the tables"


@pytest.mark.parametrize("case", long_cases(), ids=label)
def test_a_family_of_every_reach_is_right_on_long_prompts(case: Case) -> None:
    """Beyond windows, chunks and chosen keys, with gradients on and prefixes nested, everything is the oracle's."""
    verdict = long_verdict_of(case)
    assert verdict.faults == ()
    assert not verdict.is_refused


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=label)
def test_every_family_is_right_on_long_prompts_or_refused(case: Case) -> None:
    """The same for every family: none is silently wrong."""
    verdict = long_verdict_of(case)
    assert verdict.faults == ()
    assert verdict.is_refused == (case.label in REFUSED)


@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_long_prompts_reach_beyond_everything_short(encoder_decoder: bool) -> None:
    """They are longer than windows and probes, on both sides of the original context, and several begin alike."""
    readings = long_readings(encoder_decoder=encoder_decoder)
    lengths = [len(reading.decoder_ids or reading.ids) for reading in readings]
    assert len(readings) >= 6
    assert max(lengths) > max(REACH, ORIGINAL_CONTEXT)
    assert min(lengths) < ORIGINAL_CONTEXT
    if not encoder_decoder:
        for n_prompts, n_tokens in ((2, 40), (3, 30), (5, 16)):
            assert len({reading.ids[:n_tokens] for reading in readings[:n_prompts]}) == 1
        assert readings[5].ids[:16] == readings[6].ids[:16]
        assert PAD in readings[5].ids[:16]
        assert len({reading.ids[0] for reading in readings}) == 5


@pytest.mark.parametrize("case", VARIANTS, ids=label)
def test_rows_that_see_one_another_run_one_at_a_time(case: Case) -> None:
    """Where prompts of a batch change one another's answers, or positions compete, that is found at load."""
    check = verdict_of(case, QUICK).self_check
    compete_across_rows = case.name != "switch_transformers"
    assert (check.method, check.row_by_row) == (("plain", True) if compete_across_rows else ("ladder", False))


def test_every_mechanism_is_a_family_of_the_registry() -> None:
    """What is listed as a mechanism, a refusal or a variant exists, and is not examined elsewhere already."""
    labels = {case.label for case in all_cases()}
    assert set(REFUSED) <= set(MECHANISMS) | {"musicgen_melody"}
    assert set(MECHANISMS) - labels == set()
    assert not set(MECHANISMS) & {family.name for family in FAMILIES}
    assert all(MECHANISMS.values())
    assert all(VARIANTS.values())


def test_page_lists_the_families_of_its_transformers() -> None:
    """docs/architectures.md has a row for each family of the Transformers that it was made with."""
    page = PAGE.read_text("utf-8")
    version = transformers_of(page)
    if version != transformers.__version__:
        pytest.skip(f"the page is of transformers {version}; `make architectures` writes it again")
    assert differences(page) == []


def _long(case: Case) -> LongVerdict:
    """A verdict about long prompts that nobody came to."""
    if case.label in REFUSED:
        return LongVerdict(case=case, refusals=("no",))
    errors, faults = {"readouts": 3e-6, "divergences": 4e-7}, ("off",) if case.label == "encdec:bart" else ()
    return LongVerdict(
        case=case, errors=errors, n_prefixes=2, faults=faults, says=("as it says", "Everything was measured anew.")
    )


def test_page_is_made_of_verdicts() -> None:
    """A family that is traced, one that is refused and a variant each have their row, and a lacking one is noticed."""
    cases = {case.label: case for case in default_cases()}
    chosen = (cases["bert"], cases["encdec:bart"], cases["xlm"], *VARIANTS)
    page = page_of([(verdict_of(case, QUICK), _long(case)) for case in chosen])
    assert transformers_of(page) == transformers.__version__
    assert "| `bert` | 4 | 4×attention | 4×dense | ladder |" in page
    assert "| `bart` (encoder-decoder) | 4 |" in page
    assert f"| `xlm` | {REFUSED['xlm'].reason} |" in page
    assert "| `bert` | 2 | 3e-06 | 4e-07 | – |" in page
    assert "| `bert` | as it says |" in page
    assert "| right with long prompts too | 1 |" in page
    assert "| of these, some of whose traces went on by a slower way and say so | 1 |" in page
    assert "| silently wrong with long prompts | 1 |" in page
    assert "| `bart` (encoder-decoder) | long prompts: off |" in page
    assert "| `doge`, `is_moe=True` | a view in the router mixes positions and prompts | plain, one prompt" in page
    lacking = differences(page)
    assert "gpt2" in lacking
    assert {"bert", "encdec:bart", "xlm", "layertracer"}.isdisjoint(lacking)
