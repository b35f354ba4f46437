"""What the options of a trace stand for."""

from __future__ import annotations

from typing import Any

import pytest

from layertracer import Mask, Noise, Skip, UsageError
from layertracer._types import SITES, is_site_asked
from layertracer.cli._choices import ALL_SITES
from layertracer.cli._trace_options import make_perturbations

USUAL: dict[str, Any] = {
    "perturbation": "mask",
    "sites": (),
    "mask_fraction": 0.2,
    "draws": 5,
    "scheme": "partition",
    "fill": "zero",
    "positions": "all",
    "noise_scale": 0.1,
    "seed": 0,
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [Mask()]),
        ({"sites": ("state",)}, [Mask(site="state")]),
        ({"sites": ("mlp_output", "state")}, [Mask(site="mlp_output"), Mask(site="state")]),
        ({"sites": ("state", "mlp_output", "state")}, [Mask(site="state"), Mask(site="mlp_output")]),
        ({"sites": ("state",), "perturbation": "noise"}, [Noise(site="state")]),
        ({"perturbation": "skip"}, [Skip()]),
    ],
)
def test_one_perturbation_for_each_site(options: dict[str, Any], expected: list[Any]) -> None:
    """Every site is perturbed in the order given, and once, however often it is named."""
    assert make_perturbations(USUAL | options) == expected


@pytest.mark.parametrize("sites", [(ALL_SITES,), ("state", ALL_SITES)])
def test_all_sites_are_those_that_the_model_has(sites: tuple[str, ...]) -> None:
    """All sites are perturbed alike, and none of them was asked for by name: one that a model lacks is left out."""
    found = make_perturbations(USUAL | {"sites": sites, "draws": 10})
    assert sorted(one.site for one in found) == sorted(SITES)
    assert not any(is_site_asked(one) for one in found)
    assert {one.n_draws for one in found} == {10}


@pytest.mark.parametrize(
    ("options", "named"), [({"fill": "mean"}, "--fill mean"), ({"positions": "last"}, "--positions last")]
)
def test_of_all_sites_those_that_an_option_fits(
    options: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site at which an option has no meaning is left out of all with a note, and refused where it was named."""
    found = make_perturbations(USUAL | {"sites": (ALL_SITES,)} | options)
    assert [str(one.site) for one in found] == ["mixer_output", "block_output", "mlp_output"]
    said = capsys.readouterr().err
    assert said == f"Note: the site 'state' is left out: {named} has no meaning there.\n"
    with pytest.raises(UsageError, match="state"):
        make_perturbations(USUAL | {"sites": ("state", ALL_SITES)} | options)
