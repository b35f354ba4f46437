"""Perturbations as specifications: which dimensions a mask keeps, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from layertracer._types import count_sure_draws, is_site_asked, name_draws

SCHEMES = ("partition", "random")


@given(st.sampled_from([2, 4, 5, 10]), st.integers(1, 3), st.integers(20, 60), st.integers(0, 5))
def test_a_partition_masks_each_dimension_once_per_group(n_sets: int, groups: int, width: int, seed: int) -> None:
    """In every group of 1 / fraction draws each dimension is masked exactly once."""
    mask = lt.Mask(fraction=1 / n_sets, draws=n_sets * groups, seed=seed)
    keep = mask.keep_array(n_layers=3, width=width)
    assert (~keep).reshape(3, groups, n_sets, width).sum(axis=2).tolist() == np.ones((3, groups, width)).tolist()


@given(st.integers(2, 50), st.integers(0, 5), st.integers(1, 4))
def test_a_random_mask_masks_its_share(width: int, seed: int, draws: int) -> None:
    """Each draw of a random mask masks the rounded share of the dimensions."""
    keep = lt.Mask(fraction=0.5, scheme="random", draws=draws, seed=seed).keep_array(n_layers=2, width=width)
    assert set((~keep).sum(axis=-1).flatten().tolist()) == {round(0.5 * width)}


@pytest.mark.parametrize("scheme", ["partition", "random"])
def test_a_layers_mask_does_not_depend_on_the_number_of_layers(scheme: str) -> None:
    """The masks of the first layers are the same in a deeper model."""
    mask = lt.Mask(scheme=scheme)
    shallow, deep = mask.keep_array(n_layers=2, width=30), mask.keep_array(n_layers=7, width=30)
    assert np.array_equal(shallow, deep[:2])


def test_seeds_decide() -> None:
    """Equal seeds give equal masks, other seeds others."""
    one, same, other = (lt.Mask(seed=seed).keep_array(n_layers=2, width=50) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_an_explicit_mask_is_taken_as_it_is() -> None:
    """Mask.explicit keeps what is given, with its draws."""
    keep = np.array([[[1, 0, 1]], [[0, 0, 1]]])
    mask = lt.Mask.explicit(keep, site="mlp_output")
    assert mask.keep_array(n_layers=2, width=3).tolist() == keep.astype(bool).tolist()
    assert (mask.site, mask.n_draws, mask.to_dict()["shape"]) == ("mlp_output", 1, [2, 1, 3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_a_mask_may_be_a_tensor(dtype: torch.dtype) -> None:
    """Of any type of number, with or without gradients, it is the mask of the same numbers in a list."""
    numbers = [[[1, 0, 1]], [[0, 0, 1]]]
    keep = torch.tensor(numbers).to(dtype)
    keep.requires_grad_(dtype.is_floating_point)
    assert lt.Mask.explicit(keep) == lt.Mask.explicit(numbers)


@pytest.mark.parametrize("make", [lt.Mask, lt.Noise])
def test_the_usual_site_is_a_name_that_knows_that_nobody_asked_for_it(make: type[lt.Mask] | type[lt.Noise]) -> None:
    """It equals the name, is written as it, and copies and pickles with other settings keep what nobody asked for."""
    usual, named = make(), make(site="mixer_output")
    assert usual == named
    assert hash(usual) == hash(named)
    assert usual.site == "mixer_output"
    assert repr(usual) == repr(named)
    assert type(usual.to_dict()["site"]) is str
    for copy in (usual, dataclasses.replace(usual, draws=3), pickle.loads(pickle.dumps(usual))):  # noqa: S301 - our own
        assert not is_site_asked(copy)
    assert is_site_asked(named)
    assert is_site_asked(dataclasses.replace(usual, site="mixer_output"))


def test_other_perturbations_keep_the_stream() -> None:
    """`Skip` and `Mask.explicit` name the stream after the layer."""
    assert lt.Skip().site == lt.Mask.explicit(np.ones((1, 1, 2))).site == "block_output"
    assert is_site_asked(lt.Mask.explicit(np.ones((1, 1, 2))))


@pytest.mark.parametrize("perturbation", [lt.Mask(), lt.Noise(), lt.Skip(), lt.Mask.explicit(np.ones((2, 1, 4)))])
def test_a_specification_is_json(perturbation: lt.Mask | lt.Noise | lt.Skip) -> None:
    """Every specification can be written as JSON and read back."""
    spec = perturbation.to_dict()
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.Mask(fraction=0.0), r"fraction must be in \(0, 1\]"),
        (lambda: lt.Mask(fraction=0.3), "which gives 3.333 sets"),
        (lambda: lt.Mask(draws=0), "draws must be at least 1"),
        (lambda: lt.Noise(scale=-1.0), "scale must be a finite number"),
        (lambda: lt.Noise(scale=float("nan")), "scale must be a finite number"),
        (lambda: lt.Mask.explicit(np.ones((2, 3))), r"shape \[layer, draw, width\], got shape \[2, 3\]"),
        (lambda: lt.Mask.explicit(np.full((1, 1, 2), 2)), "0 and 1 only"),
        (lambda: lt.Mask.explicit([[["a"]]]), "0 and 1 only .*got .*'a'"),
        (lambda: lt.Mask.explicit([[[None]]]), "0 and 1 only .*got None"),
        (lambda: lt.Mask.explicit([[[1.0, 0.5]]]), "0 and 1 only .*values from 0.5 to 1.0"),
        (lambda: lt.Mask.explicit([[[1.0, float("nan")]]]), "0 and 1 only .*got 1 NaN"),
        (lambda: lt.Mask.explicit([[[1, 0], [1]]]), "lists of different lengths"),
        (lambda: lt.Mask.explicit([[1, 0], [[1], [0]]]), "lists of different lengths"),
        (lambda: lt.Mask.explicit(None), r"shape \[layer, draw, width\], got None"),
        (lambda: lt.Mask.explicit("keep"), r"shape \[layer, draw, width\], got 'keep'"),
        (lambda: lt.Mask.explicit(np.ones((1, 0, 4))), r"got shape \[1, 0, 4\]"),
        (lambda: lt.Mask(keep=np.ones((1, 2, 4), bool)), "keep has 2 draws and draws=5"),
        (lambda: lt.Mask(draws=2.5), "draws must be a whole number, got 2.5"),
        (lambda: lt.Mask(draws=True), "draws must be a whole number, got True"),
        (lambda: lt.Mask(seed="1"), "seed must be a whole number, got '1'"),
        (lambda: lt.Mask(fraction="a fifth"), "fraction must be a number, got 'a fifth'"),
        (lambda: lt.Noise(scale=None), "scale must be a number, got None"),
        (lambda: lt.Noise(draws="many"), "draws must be a whole number, got 'many'"),
        (lambda: lt.Mask(fraction=0.01, scheme="random").keep_array(n_layers=1, width=8), "masks none"),
        (
            lambda: lt.Mask(fraction=0.1, draws=10).keep_array(n_layers=1, width=8),
            "0.1 of 8 dimensions masks none in some draws: its 10 parts need at least 10 of them",
        ),
        (lambda: lt.Mask(fraction=0.05, draws=3).keep_array(n_layers=1, width=19), "its 20 parts"),
        (lambda: lt.Mask(fraction=0.1, draws=1).masked_stretch(0, 4), "masks none in some draws"),
        (lambda: lt.Mask.explicit(np.ones((1, 1, 4))).keep_array(n_layers=2, width=4), r"this model needs \[2, 1, 4\]"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, message: str) -> None:
    """Values out of range say what was got and what was expected."""
    assert callable(make)
    with pytest.raises(lt.UsageError, match=message):
        make()


@given(width=st.integers(1, 40), n_parts=st.integers(1, 20), draws=st.integers(1, 41), scheme=st.sampled_from(SCHEMES))
def test_every_draw_masks_something(width: int, n_parts: int, draws: int, scheme: Any) -> None:
    """A mask is refused, or each of its draws masks at least one dimension of each layer."""
    mask = lt.Mask(fraction=1 / n_parts, draws=draws, scheme=scheme)
    try:
        keep = mask.keep_array(n_layers=2, width=width)
    except lt.UsageError:
        assert width < n_parts
        return
    assert (~keep).any(axis=-1).all()


@pytest.mark.parametrize(
    ("perturbation", "draws"),
    [
        (lt.Mask(), "parts"),
        (lt.Mask(draws=10), "parts"),
        (lt.Mask(draws=7), "sampled"),
        (lt.Mask(scheme="random"), "sampled"),
        (lt.Mask(fraction=1.0, draws=1), "given"),
        (lt.Mask(fraction=1.0, draws=1, fill="resample"), "sampled"),
        (lt.Mask.explicit(np.zeros((1, 2, 4))), "given"),
        (lt.Noise(), "sampled"),
        (lt.Skip(), "given"),
    ],
)
def test_draws_are_named_for_what_they_are(perturbation: Any, draws: str) -> None:
    """Whole partitions are parts, what is not random is given, everything else is a sample."""
    assert name_draws(perturbation.to_dict()) == draws


@pytest.mark.parametrize(
    ("perturbation", "least"),
    [
        (lt.Mask(), 5),
        (lt.Mask(draws=3), 5),
        (lt.Mask(scheme="random"), 10),
        (lt.Mask(scheme="random", fraction=0.5), 10),
        (lt.Mask(scheme="random", fraction=0.05), 40),
        (lt.Mask(fraction=1.0, draws=1, fill="resample"), 1),
        (lt.Mask.explicit(np.zeros((1, 2, 4))), 1),
        (lt.Noise(), 1),
        (lt.Skip(), 1),
    ],
)
def test_draws_that_may_miss_a_dimension_are_counted(perturbation: Any, least: int) -> None:
    """A partition has every dimension in its parts; random masks need ten, or each dimension twice; noise hits all."""
    assert count_sure_draws(perturbation.to_dict()) == least
