"""Models in bfloat16 and float16: the same laws, with tolerances that follow the type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import layertracer as lt

from tests.support.models.families import BRANCHES, BY_NAME, build_tiny
from tests.support.oracles.plain_hooks import plain_js, plain_log_probs, plain_readouts

TYPES = [torch.bfloat16, torch.float16]
SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("qwen3", "mixtral", "bloom", "falcon_alibi", "qwen3_next", "rwkv")
]
FAMILIES = ["gemma2", "mamba2", *SLOW]
IDS = (5, 9, 33, 7, 60, 41, 2, 88)
SAMPLES = [lt.Sample(prompt_ids=IDS, answer_id=11), lt.Sample(prompt_ids=IDS[::-1], answer_id=3)]


def narrow(family: str, dtype: torch.dtype) -> torch.nn.Module:
    """A tiny model in a narrow type."""
    return build_tiny(family).to(dtype)


@pytest.fixture(params=TYPES, ids=["bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """A narrow type."""
    return request.param


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_the_self_check_of_its_type(family: str, dtype: torch.dtype) -> None:
    """A model in a narrow type is traced by the ladder, within tolerances that follow the type."""
    model = lt.wrap_model(narrow(family, dtype))
    assert (model.dtype, model.self_check.method) == (dtype, "ladder")
    eps = torch.finfo(dtype).eps
    for check in model.self_check.checks:
        assert check.error <= check.tolerance <= (64 if check.unit == "nats" else 4) * eps, check
    readout = lt.read_layers(model, SAMPLES)
    assert readout.log_probs.dtype == torch.float32
    np.testing.assert_allclose(readout.log_probs.double().exp().sum(-1).numpy(), 1, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_readouts_equal_plain_hooks_in_the_same_type(family: str, dtype: torch.dtype) -> None:
    """The readout of every layer is that of plain hooks on the same narrow model, within its rounding."""
    readout = lt.read_layers(lt.wrap_model(narrow(family, dtype)), SAMPLES[:1])
    expected = plain_readouts(narrow(family, dtype), BY_NAME[family].layers, IDS)
    np.testing.assert_allclose(readout.log_probs[0], expected, atol=32 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("site", ["block_output", "mixer_output"])
@pytest.mark.parametrize("family", ["gemma2", pytest.param("mamba2", marks=pytest.mark.slow)])
def test_ladder_equals_plain_hooks_in_the_same_type(family: str, site: lt.Site, dtype: torch.dtype) -> None:
    """The JS of every layer and draw is that of plain hooks on the same narrow model, within its rounding."""
    model = lt.wrap_model(narrow(family, dtype))
    mask = lt.Mask(fraction=0.25, draws=2, site=site, seed=4)
    trace = lt.trace(model, SAMPLES, perturbation=mask)
    keep = mask.keep_array(n_layers=model.anatomy.n_layers, width=model.anatomy.d_model)
    for index, sample in enumerate(SAMPLES):
        assert sample.prompt_ids is not None
        expected = plain_js(
            narrow(family, dtype),
            BY_NAME[family].layers,
            sample.prompt_ids,
            keep=keep,
            branches=BRANCHES[family],
            site=site,
        )
        np.testing.assert_allclose(trace.js_bits[index], expected, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("family", ["gemma2", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_differs_from_float32_by_rounding(family: str) -> None:
    """float16 is closer to float32 than bfloat16 is, and both are within their rounding's reach."""
    exact = lt.read_layers(lt.wrap_model(build_tiny(family)), SAMPLES).log_probs[:, -1]
    likely = exact > np.log(1e-3)
    gaps = {
        dtype: (lt.read_layers(lt.wrap_model(narrow(family, dtype)), SAMPLES).log_probs[:, -1] - exact)[likely]
        for dtype in TYPES
    }
    largest = {dtype: float(gap.abs().max()) for dtype, gap in gaps.items()}
    assert 0 < largest[torch.float16] < largest[torch.bfloat16]
    assert all(gap < 64 * torch.finfo(dtype).eps for dtype, gap in largest.items())


def test_an_overflow_is_refused() -> None:
    """A model whose stream is too large for float16 is refused, with the layer and the type, not traced as NaN."""
    module = build_tiny("llama")
    module.get_submodule("model.layers.1.mlp.down_proj").weight.data.mul_(1e5)
    assert lt.wrap_model(module).self_check.method == "ladder"
    with pytest.raises(lt.NonFiniteError, match=r"after layer 1 .*dtype='float32' \(it runs in torch\.float16\)"):
        lt.wrap_model(module.to(torch.float16))


def test_the_last_readout_is_the_models_own(dtype: torch.dtype) -> None:
    """Log-probabilities are taken from the model's own logits in float32, whatever it runs in."""
    module = narrow("llama", dtype)
    readout = lt.read_layers(lt.wrap_model(module), SAMPLES[:1])
    own = plain_log_probs(module, IDS)
    np.testing.assert_allclose(readout.log_probs[0, -1], own, atol=16 * torch.finfo(dtype).eps)
