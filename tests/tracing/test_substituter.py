"""Substitutes in mixers' place: windows with sinks, no mixer and the mean against plain hooks, and laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer.tracing import JudgedRow, RowMeasures, Substituter, make_substituter

from tests.support.models.families import BY_NAME, build_tiny
from tests.support.oracles.substituted import Change, masking, replacing_output, said_with
from tests.support.tiny import fresh, tiny

WINDOW = lt.Window(4, sinks=2)
KEPT = ((), (2,), (0, 3), (1, 2, 3), (0, 1, 2, 3))


def rows(*lengths: int, d_vocab: int = 90) -> list[JudgedRow]:
    """Rows of random tokens, read everywhere but at every fifth position, so that what is read is not evenly spaced."""
    generator = torch.Generator().manual_seed(sum(lengths))
    drawn = [torch.randint(3, d_vocab, (length,), generator=generator).tolist() for length in lengths]
    return [JudgedRow(ids=ids, read=[p for p in range(len(ids)) if p % 5 != 1]) for ids in drawn]  # type: ignore[arg-type]


ROWS = rows(7, 23, 23, 40)


def compare(substituter: Substituter, kept: Sequence[Any], change: Change, *, atol: float = 1e-5) -> None:
    """All rows and placements in one call, against one hooked forward for each."""
    found = substituter.measure(ROWS, kept)
    for row, own in zip(ROWS, found, strict=True):
        for number, placement in enumerate(kept):
            layers = set(substituter.placeable) - set(placement)
            said = said_with(substituter.model.module, row.ids, layers, change)
            read = list(row.read)
            np.testing.assert_allclose(own.kl_nats[number], said.kl_nats[read], atol=atol)
            np.testing.assert_allclose(own.nll_nats[number], said.nll_nats[read], atol=2 * atol)
            assert (own.top_ids[number] == said.top_ids[read]).mean() > 0.9  # equal probabilities have no order


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "gpt2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3_text", "falcon", "jamba", "bloom")),
    ],
)
def test_windows_with_sinks_are_masks(name: str) -> None:
    """A window with sinks says what the mask says that a plain hook hands to the layer."""
    substituter = make_substituter(tiny(name), WINDOW)
    layers = substituter.placeable
    kept = [(), layers, layers[:1], layers[1:], layers[::2]]
    compare(substituter, kept, masking(BY_NAME[name].layers, 4, 2))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_no_mixer_adds_nothing(name: str) -> None:
    """Without mixers a model says what it says where a plain hook makes what they add zero."""
    path = {"llama": "model.layers.{}.self_attn", "gpt2": "transformer.h.{}.attn"}[name]
    n_layers = tiny(name).anatomy.n_layers
    kept = [[layer for layer in placement if layer < n_layers] for placement in KEPT]
    compare(make_substituter(tiny(name), lt.NoMixer()), kept, replacing_output(path, lambda _, own: 0 * own))


def test_the_mean_is_over_rows_and_positions() -> None:
    """The mean is over all positions of all rows, long ones counting more, of what a layer's mixer adds."""
    module, path = build_tiny("llama"), "model.layers.{}.self_attn"
    added: dict[int, list[Tensor]] = {layer: [] for layer in range(4)}
    noting = replacing_output(path, lambda layer, own: (added[layer].append(own[0].double()), own)[1])
    with noting(module, [0, 1, 2, 3]), torch.no_grad():
        for row in ROWS:
            module(torch.tensor([row.ids]))
    means = {layer: torch.cat(values).mean(0).float() for layer, values in added.items()}
    substituter = make_substituter(tiny("llama"), lt.MeanMixer(), mean_rows=ROWS)
    compare(substituter, KEPT, replacing_output(path, lambda layer, own: means[layer].expand(own.shape)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("substitute", [WINDOW, lt.NoMixer()], ids=str)
def test_sixteen_bits(dtype: torch.dtype, substitute: Any) -> None:
    """In sixteen bits the numbers are those of plain hooks as far as rounding goes, and the audit agrees."""
    module = fresh("qwen3").to(dtype)
    substituter = make_substituter(lt.wrap_model(module), substitute)
    off = replacing_output("model.layers.{}.self_attn", lambda _, own: 0 * own)
    change = off if substitute == lt.NoMixer() else masking("model.layers", 4, 2)
    compare(substituter, [(), (1,), (0, 2, 3, 4)], change, atol=0.1 if dtype == torch.bfloat16 else 0.02)
    assert substituter.method == "ladder"


# ---------------------------------------------------------------- laws


def assert_same(one: RowMeasures, other: RowMeasures, *, atol: float = 2e-6) -> None:
    """Two rows' measures are the same up to rounding."""
    for name in ("kl_nats", "nll_nats", "full_nll_nats"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol, err_msg=name)


@pytest.mark.parametrize("substitute", [WINDOW, lt.NoMixer()], ids=str)
def test_neither_order_nor_company_changes_anything(substitute: Any) -> None:
    """Placements and rows in any order, repeated, or each alone say the same."""
    substituter = make_substituter(tiny("qwen3"), substitute, audit=0)
    kept = [(), (4,), (0, 1), (1, 2, 3), (0, 1, 2, 3), (0, 2), (0, 1)]
    together = substituter.measure(ROWS, kept)
    for row, found in zip(ROWS, together, strict=True):
        np.testing.assert_array_equal(found.kl_nats[2], found.kl_nats[6])
        for number, placement in enumerate(kept):
            (alone,) = substituter.measure([row], [placement])
            np.testing.assert_allclose(alone.kl_nats[0], found.kl_nats[number], atol=2e-6)
            np.testing.assert_allclose(alone.full_nll_nats, found.full_nll_nats, atol=2e-6)
    for found, turned in zip(together, substituter.measure(ROWS[::-1], kept[::-1])[::-1], strict=True):
        np.testing.assert_allclose(turned.kl_nats[::-1], found.kl_nats, atol=2e-6)
        np.testing.assert_array_equal(turned.top_ids[::-1], found.top_ids)


def test_the_plain_method_says_the_same() -> None:
    """One forward for each placement says what all in one forward say."""
    substituter = make_substituter(tiny("llama"), WINDOW, audit=0)
    found = substituter.measure(ROWS, KEPT)
    substituter.method = "plain"
    for one, other in zip(found, substituter.measure(ROWS, KEPT), strict=True):
        assert_same(one, other)


def test_small_passes_say_the_same() -> None:
    """However little goes into a pass, and however few logits are there at a time, the numbers are the same."""
    model = tiny("llama")
    found = make_substituter(model, WINDOW, audit=0).measure(ROWS, KEPT)
    small = make_substituter(model, WINDOW, audit=0, memory="200kB").measure(ROWS, KEPT)
    for one, other in zip(found, small, strict=True):
        assert_same(one, other)


def test_what_hides_nothing_changes_nothing() -> None:
    """Where every layer is kept, and where a row is no longer than what a window sees, the divergence is 0 exactly."""
    model = tiny("llama")
    for window in (lt.Window(23), lt.Window(20, sinks=3), lt.Window(60)):
        for row, found in zip(ROWS, make_substituter(model, window).measure(ROWS, [(), (0, 1, 2, 3)]), strict=True):
            assert (found.kl_nats[1] == 0).all()
            np.testing.assert_array_equal(found.nll_nats[1], found.full_nll_nats)
            if len(row.ids) <= window.n_seen:
                assert (found.kl_nats == 0).all()
                np.testing.assert_array_equal(found.top_ids[0], found.full_top_ids)
            elif len(row.ids) > window.n_seen + 1:
                assert found.kl_nats[0].max() > 0
    # One token less is seen of one position alone: nothing changes before.
    (found,) = make_substituter(model, lt.Window(22)).measure(rows(23), [()])
    np.testing.assert_allclose(found.kl_nats[0, :-1], 0, atol=1e-6)
    assert found.kl_nats[0, -1] > 1e-4


def test_a_window_through_the_site_that_sees_everything_is_the_full_model() -> None:
    """Through the site itself, too, a window as long as the row gives the full model's logits to the last bit."""
    from layertracer.tracing._passes.placed import plain_placed
    from layertracer.tracing._passes.plain import plain_logits
    from layertracer.tracing._perturbers.substitutes import WindowPerturber

    network, ids = tiny("qwen3").network, torch.tensor([ROWS[1].ids])
    perturber = WindowPerturber(window=lt.Window(20, sinks=3))
    with torch.no_grad():
        placed = plain_placed(network, ids, read=range(23), perturber=perturber, layers=(0, 1, 2, 3, 4))
        assert torch.equal(placed, plain_logits(network, ids, read=range(23)))
    assert perturber.n_calls == dict.fromkeys(range(5), 1)


def test_nll_is_of_the_rows_own_next_token() -> None:
    """−log p is of the token that follows, and missing at the row's last one."""
    (found,) = make_substituter(tiny("llama"), WINDOW).measure(ROWS[:1], [(0,)])
    is_last = np.array(ROWS[0].read) == len(ROWS[0].ids) - 1
    np.testing.assert_array_equal(np.isnan(found.nll_nats[0]), is_last)
    np.testing.assert_array_equal(np.isnan(found.full_nll_nats), is_last)


def test_the_model_stays_as_it_is() -> None:
    """Gradients, modes, hooks and weights are as before; a model in training mode is measured as in evaluation mode."""
    module = fresh("llama").train()
    model = lt.wrap_model(module)
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    one = make_substituter(model, WINDOW).measure(ROWS, KEPT)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all("forward" not in vars(part) and not part._forward_hooks for part in module.modules())
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    for found, other in zip(one, make_substituter(tiny("llama"), WINDOW).measure(ROWS, KEPT), strict=True):
        assert_same(found, other)


def test_progress_is_told_by_rows() -> None:
    """Rows that are done are told as they are; what is raised in telling comes out as it is."""
    substituter, told = make_substituter(tiny("llama"), WINDOW, audit=0), list[tuple[int, int]]()
    substituter.measure(ROWS, KEPT, on_rows=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (3, 4), (4, 4)]

    def fail(done: int, total: int) -> None:
        raise KeyError(done, total)

    with pytest.raises(KeyError, match=r"\(1, 4\)"):
        substituter.measure(ROWS, KEPT, on_rows=fail)


def test_some_is_measured_again() -> None:
    """The audit compares cells of every length with plain forwards, by its share, and none where that is 0."""
    substituter = make_substituter(tiny("llama"), WINDOW, audit=1.0)
    assert substituter.audit.n_cells == 0
    assert substituter.audit.worst_nats is None
    substituter.measure(ROWS, KEPT)
    many = substituter.audit
    assert many.n_cells >= 6
    assert many.worst_nats is not None
    assert many.worst_nats < 1e-4
    assert many.notes == ()
    few = make_substituter(tiny("llama"), WINDOW)
    few.measure(ROWS, KEPT)
    assert 3 <= few.audit.n_cells < many.n_cells
    off = make_substituter(tiny("llama"), WINDOW, audit=0)
    off.measure(ROWS, KEPT)
    assert (off.audit.n_cells, off.audit.notes) == (0, ("Nothing was measured again: the audit was turned off.",))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("placements", "message"),
    [
        ([(0, 9)], r"Placement 0 keeps \[9\], but a window of 4 tokens and the first 2 can stand in the layers \[0, 1"),
        ([(0,), (-1,)], r"Placement 1 keeps \[-1\]"),
        ([3], r"Placement 0 must be the layers that keep their mixers, got 3"),
        (["01"], "Placement 0 must be the layers that keep their mixers, got '01'"),
        ([(0.5,)], r"Each layer of placement 0 must be a whole number, got 0\.5"),
    ],
)
def test_what_is_no_placement_is_refused(placements: Any, message: str) -> None:
    """Layers that are none, and what is no collection of them, are refused before anything runs."""
    with pytest.raises(lt.UsageError, match=message):
        make_substituter(tiny("llama"), WINDOW).measure(ROWS, placements)


def test_bad_questions_are_refused() -> None:
    """No rows, a mean without rows, a window beyond the context, and what is no substitute, each with what to do."""
    model = tiny("llama")
    with pytest.raises(lt.UsageError, match="There is no row to measure placements on"):
        make_substituter(model, WINDOW).measure([], KEPT)
    with pytest.raises(lt.UsageError, match="MeanMixer is a mean over texts"):
        make_substituter(model, lt.MeanMixer())
    with pytest.raises(lt.UsageError, match="A window of 5000 tokens hides nothing from 'llama', whose context is"):
        make_substituter(model, lt.Window(5000))
    with pytest.raises(lt.UsageError, match="substitute must be a Window"):
        make_substituter(model, 64)  # type: ignore[arg-type]
    with pytest.raises(lt.UsageError, match="audit must be a share"):
        make_substituter(model, WINDOW, audit=2.0)


def test_models_without_what_is_substituted_are_refused() -> None:
    """A model of which no layer can be given a window, and one of encoder and decoder, are refused with the reason."""
    with pytest.raises(lt.SiteError, match="There is no layer of 'mamba' in whose mixer's place a window"):
        make_substituter(tiny("mamba"), WINDOW)
    with pytest.raises(lt.SiteError, match="reads one text with an encoder"):
        make_substituter(tiny("encdec:t5"), WINDOW)
    assert make_substituter(tiny("mamba"), lt.NoMixer()).placeable == (0, 1, 2, 3, 4)


def test_layers_that_cannot_be_given_a_window_stay_as_they_are() -> None:
    """In a hybrid the attention layers are placeable; the others keep their mixers, and the reasons are there."""
    substituter = make_substituter(tiny("jamba"), WINDOW)
    assert substituter.placeable == (1, 3)
    assert set(substituter.refused) == {0, 2, 4}
    assert set(substituter.refused.values()) == {"its mixer (mamba) calls no attention that could be given a window"}
    with pytest.raises(lt.UsageError, match=r"Placement 0 keeps \[0\]"):
        substituter.measure(ROWS, [(0,)])
