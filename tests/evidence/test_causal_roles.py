"""What a position is to its prompt, means by role, peaks and arrivals: against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from layertracer._types import Audit
from layertracer.evidence import (
    ROLES,
    CausalRecord,
    RoleEffects,
    find_arrival,
    find_peak,
    mean_by_role,
    mean_interval,
    role_of,
)


@pytest.mark.parametrize(
    ("span", "length", "roles"),
    [
        ((1, 4), 7, [None, "first_subject", "middle_subject", "last_subject", "first_subsequent", "further", "last"]),
        ((0, 1), 3, ["last_subject", "first_subsequent", "last"]),
        ((0, 2), 4, ["first_subject", "last_subject", "first_subsequent", "last"]),
        ((1, 3), 3, [None, "first_subject", "last"]),
        ((0, 4), 5, ["first_subject", "middle_subject", "middle_subject", "last_subject", "last"]),
        ((-1, -1), 2, [None, None]),
    ],
)
def test_roles_written_by_hand(span: tuple[int, int], length: int, roles: list[str | None]) -> None:
    """Of several roles the last named counts; before the subject, and without one, there is none."""
    assert [role_of(position, span, length) for position in range(length)] == roles


def _two_prompts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two prompts, two layers: (first, last subject, last) and (last subject, first subsequent, further ×2, last)."""
    effect = np.full((2, 2, 6), np.nan, np.float32)
    effect[0, :, 1:4] = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    effect[1, :, 1:6] = [[0.6, 0.0, 0.2, 0.4, 0.1], [0.1, 0.0, 0.0, 0.2, 0.8]]
    return effect, np.array([[1, 3], [1, 2]]), np.array([4, 6])


def test_means_are_of_prompts_means() -> None:
    """A prompt counts once in a role, however many such tokens it has; prompts without one do not count."""
    effect, spans, lengths = _two_prompts()
    found = mean_by_role(effect, spans, lengths)
    assert found.roles == ("first_subject", "last_subject", "first_subsequent", "further", "last")
    np.testing.assert_allclose(found.mean, [[0.1, 0.4], [0.4, 0.3], [0.0, 0.0], [0.3, 0.1], [0.2, 0.7]], atol=1e-7)
    assert found.n_prompts.tolist() == [1, 2, 1, 1, 2]
    assert np.isnan(found.low).all()  # two prompts tell nothing of others
    assert np.isnan(found.high).all()


def test_a_layer_without_the_site_has_no_mean() -> None:
    """Where a layer has nothing to patch, its column is empty and the others keep theirs."""
    effect, spans, lengths = _two_prompts()
    effect[:, 0] = np.nan
    found = mean_by_role(effect, spans, lengths)
    assert np.isnan(found.mean[:, 0]).all()
    np.testing.assert_allclose(found.mean[-1], [np.nan, 0.7], atol=1e-7)


def test_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    """Of 200 samples of 12 prompts, at least 90 % of the intervals hold the true mean, skewed effects too."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        values = rng.beta(0.7, 1.4, size=12)
        effect = np.full((12, 1, 2), np.nan)
        effect[:, 0, 0] = values
        found = mean_by_role(effect, np.tile([[0, 1]], (12, 1)), np.full(12, 2), bounds=(-1, 1), seed=seed)
        held += found.low[0, 0] <= 0.7 / 2.1 <= found.high[0, 0]
    assert held >= 180


def test_copies_count_once() -> None:
    """Prompts that are copies are taken anew together: twenty copies of four have no interval, ten prompts have one."""
    values = np.linspace(0.1, 0.9, 20)
    assert mean_interval(values, units=[index % 4 for index in range(20)]) is None
    assert mean_interval(values[:4]) is None
    own, copies = mean_interval(np.tile(values[:10], 2)), mean_interval(np.tile(values[:10], 2), units=[*range(10)] * 2)
    assert own is not None
    assert copies is not None
    assert copies.high - copies.low > 1.2 * (own.high - own.low)


def _effects(mean: list[list[float]], half: float, roles: tuple[str, ...]) -> RoleEffects:
    values = np.array(mean)
    return RoleEffects(
        roles=roles, mean=values, low=values - half, high=values + half, n_prompts=np.full(len(roles), 9)
    )


def test_a_peak_is_clear_only_where_no_interval_reaches_into_its_own() -> None:
    """Neighbours that overlap contend, in other roles too, and a peak without an interval is never clear."""
    roles = ("last_subject", "last")
    wide = find_peak(_effects([[0.5, 0.4, 0.1], [0.0, 0.2, 0.38]], 0.055, roles), roles)
    assert wide is not None
    assert (wide.role, wide.layer, wide.is_clear) == ("last_subject", 0, False)
    assert wide.contenders == (("last_subject", 1),)
    sharp = find_peak(_effects([[0.5, 0.4, 0.1], [0.0, 0.2, 0.38]], 0.04, roles), roles)
    assert sharp is not None
    assert sharp.is_clear
    assert sharp.contenders == ()
    alone = find_peak(_effects([[0.5, 0.4, 0.1], [0.0, 0.2, 0.6]], 0.01, roles), ("last_subject",))
    assert alone is not None
    assert (alone.role, alone.layer, alone.is_clear) == ("last_subject", 0, True)
    unknown = replace(
        _effects([[0.5, 0.1]], 0.01, roles[:1]), low=np.full((1, 2), np.nan), high=np.full((1, 2), np.nan)
    )
    peak = find_peak(unknown, roles)
    assert peak is not None
    assert (peak.interval, peak.is_clear, peak.contenders) == (None, False, (("last_subject", 1),))
    assert find_peak(unknown, ("last",)) is None
    below = find_peak(_effects([[-0.5, -0.1]], 0.2, roles[:1]), roles)
    assert below is not None
    assert not below.is_clear


def _record(last: np.ndarray, **changes: object) -> CausalRecord:
    """A record of prompts of two tokens, the first corrupted, with these effects at the last; total effect 0.8."""
    n_prompts, n_layers = last.shape
    corrupted = np.full(n_prompts, 0.1, np.float32)
    restored = np.full((n_prompts, n_layers, 2), 0.1, np.float32)
    restored[:, :, 1] = 0.1 + last
    empty = np.empty((0, n_layers))
    none = RoleEffects(roles=(), mean=empty, low=empty, high=empty, n_prompts=np.empty(0, np.int64))
    settings: dict[str, object] = {
        "model": {"name": "m", "n_layers": n_layers},
        "corrupt": "swap", "direction": "denoise", "site": "block_output", "window": 1, "n_draws": 1,
        "noise_scale": None, "noise_std": None, "seed": 0,
        "clean_prob": np.full(n_prompts, 0.9, np.float32), "corrupted_prob": corrupted, "restored_prob": restored,
        "logit_difference": None, "subject_spans": np.tile([[0, 1]], (n_prompts, 1)),
        "lengths": np.full(n_prompts, 2), "token_texts": (), "excluded": (), "by_role": none,
        "recovery_by_role": none, "total_effect_interval": None, "audit": Audit(share=0.0), "method": "plain",
        "provenance": {}, "spec": {},
    }  # fmt: skip
    return CausalRecord(**settings | changes)  # type: ignore[arg-type]


def test_arrival_is_where_half_has_come_for_good() -> None:
    """The first layer from which on the mean is at least half of the total effect, and stays so."""
    curve = np.array([0.0, 0.5, 0.1, 0.45, 0.8])
    found = find_arrival(_record(np.tile(curve, (8, 1))))
    assert found is not None
    assert found.interval is not None
    assert (found.layer, found.n_prompts, found.interval.low, found.interval.high) == (3, 8, 3.0, 3.0)
    few = find_arrival(_record(np.tile(curve, (3, 1))))
    assert few is not None
    assert (few.layer, few.interval) == (3, None)
    never = find_arrival(_record(np.full((8, 5), 0.1)))
    assert never is not None
    assert never.layer is None
    assert find_arrival(_record(np.tile(curve, (8, 1)), site="mlp_output")) is None
    copies = find_arrival(_record(np.tile(curve, (8, 1)), spec={"units": [0, 1, 0, 1, 0, 1, 0, 1]}))
    assert copies is not None
    assert copies.interval is None


def test_effects_of_both_directions() -> None:
    """Denoising gains on the corrupted run, noising loses from the clean one; recovery is 0 and 1 at their ends."""
    record = _record(np.array([[0.0, 0.8]]))
    np.testing.assert_allclose(record.indirect_effect[0, :, 1], [0.0, 0.8], atol=1e-6)
    np.testing.assert_allclose(record.recovery[0, :, 1], [0.0, 1.0], atol=1e-6)
    noising = replace(record, direction="noise")
    np.testing.assert_allclose(noising.indirect_effect[0, :, 1], [0.8, 0.0], atol=1e-6)
    assert ROLES[-1] == "last"
