"""Layers that are compiled for the passes: where it is right, and what is said where it is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

import layertracer as lt

from tests.support.models.families import build_tiny
from tests.support.models.hybrids import Hybrid
from tests.support.models.offloaded import offloaded


def samples(*, n_prompts: int, length: int) -> list[lt.Sample]:
    """Prompts of one length."""
    return [
        lt.Sample(prompt_ids=tuple((5 * row + 7 * position) % 38 + 3 for position in range(length)), answer_id=row)
        for row in range(n_prompts)
    ]


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine whose C++ compiler cannot be found, and on which nothing was compiled before."""
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with inductor.patch({"cpp.cxx": (str(tmp_path / "no-such-compiler"),), "fx_graph_cache": False}):
        yield


@pytest.mark.slow  # it compiles
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what PyTorch's compiler imports
def test_all_layers_and_all_sizes_share_few_compilations() -> None:
    """However many layers, rows and positions: one compilation for batches, and one more for a single prompt."""
    torch._dynamo.reset()
    counters.clear()
    compiled, written = lt.wrap_model(build_tiny("llama"), compile=True), lt.wrap_model(build_tiny("llama"))
    assert compiled.self_check.notes == ()
    assert compiled.self_check.passed
    for n_prompts, length in ((3, 6), (4, 11), (5, 9), (2, 23), (7, 5), (1, 8)):
        prompts = samples(n_prompts=n_prompts, length=length)
        one, other = lt.trace(compiled, prompts), lt.trace(written, prompts)
        np.testing.assert_allclose(one.js_bits, other.js_bits, atol=1e-5)
        np.testing.assert_allclose(one.target_log_prob, other.target_log_prob, atol=1e-4)
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    assert not counters["graph_break"]


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what PyTorch's compiler imports
def test_without_a_compiler_layers_run_as_they_are_written(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be compiled, the self-check and the log say so, and the numbers are there all the same."""
    module = Hybrid()
    with caplog.at_level(logging.WARNING, logger="layertracer"):
        model = lt.wrap_model(module, compile=True)
    assert any("not compiled: they do not compile" in note for note in model.self_check.notes)
    assert "not compiled: they do not compile" in caplog.text
    assert model.self_check.passed
    prompts = samples(n_prompts=2, length=6)
    np.testing.assert_array_equal(lt.trace(model, prompts).js_bits, lt.trace(lt.wrap_model(module), prompts).js_bits)


def test_offloaded_layers_are_not_compiled(tmp_path: Path) -> None:
    """Weights that come and go are nothing to compile: it is said, and the model is traced as it is written."""
    model = lt.wrap_model(offloaded(Hybrid(), "main memory", tmp_path), compile=True)
    assert any("not compiled: accelerate loads or moves its weights" in note for note in model.self_check.notes)


def test_a_model_that_came_compiled_stays_as_it_is_written() -> None:
    """Compiled code passes hooks over, so that a model that arrives compiled is run as written, whatever is asked."""
    module = Hybrid()
    module.layers[0] = torch.compile(module.layers[0])
    model = lt.wrap_model(module, compile=True)
    assert any("not compiled: the model came compiled" in note for note in model.self_check.notes)


def test_asking_for_nothing_compiles_nothing() -> None:
    """Without being asked, nothing is compiled, and nothing is said about it."""
    counters.clear()
    assert lt.wrap_model(Hybrid()).self_check.notes == ()
    assert not counters["stats"]
