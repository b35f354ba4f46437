"""Models inside what training puts around them: compiled, parallel, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import layertracer as lt

from tests.support.models.families import BRANCHES, BY_NAME, build_tiny
from tests.support.oracles.plain_hooks import plain_js, plain_readouts
from tests.support.tiny import tiny

IDS = (5, 9, 33, 7, 60, 41, 2)
SAMPLES = [lt.Sample(prompt_ids=IDS, answer_id=11), lt.Sample(prompt_ids=IDS[::-1], answer_id=3)]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """What one test compiled is nothing to the next."""
    yield
    torch.compiler.reset()


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone, which sends nothing anywhere."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def compiled_whole(module: nn.Module) -> Any:
    """The module inside torch.compile, as most people compile."""
    return torch.compile(module, backend="eager")


def compiled_in_place(module: nn.Module) -> nn.Module:
    """The module compiled in place, which leaves no trace in its class or its parts."""
    module.compile(backend="eager")
    return module


def compiled_layers(module: Any) -> nn.Module:
    """Every layer inside torch.compile of its own."""
    for index, layer in enumerate(module.model.layers):
        module.model.layers[index] = torch.compile(layer, backend="eager")
    return module


def compiled_layers_in_place(module: Any) -> nn.Module:
    """Every layer compiled in place."""
    for layer in module.model.layers:
        layer.compile(backend="eager")
    return module


def already_run(compile_it: Callable[[nn.Module], Any]) -> Callable[[nn.Module], Any]:
    """Compiled and run, so that there is code that knows no hooks."""

    def prepare(module: nn.Module) -> Any:
        compiled = compile_it(module)
        with torch.no_grad():
            compiled(torch.tensor([IDS]), use_cache=False)
        return compiled

    return prepare


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "torch.compile": already_run(compiled_whole),
    "module.compile": already_run(compiled_in_place),
    "layers in torch.compile": already_run(compiled_layers),
    "layer.compile": already_run(compiled_layers_in_place),
    "DataParallel": nn.DataParallel,
    "DataParallel in torch.compile": lambda module: compiled_whole(nn.DataParallel(module)),
    "AveragedModel": AveragedModel,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_numbers_are_those_of_the_model(wrapper: str) -> None:
    """A wrapped or compiled model gives the JS of plain hooks on the model as it is written, by the ladder."""
    plain = build_tiny("qwen3")
    wrapped = lt.wrap_model(WRAPPERS[wrapper](build_tiny("qwen3")))
    assert wrapped.self_check.method == "ladder"
    assert tuple(layer.mixer for layer in wrapped.anatomy.layers) == BY_NAME["qwen3"].mixers
    sites: tuple[lt.Site, ...] = ("block_output", "mixer_output")
    for site in sites:
        mask = lt.Mask(fraction=0.5, draws=1, site=site, seed=3)
        trace = lt.trace(wrapped, SAMPLES[:1], perturbation=mask)
        keep = mask.keep_array(n_layers=wrapped.anatomy.n_layers, width=wrapped.anatomy.d_model)
        expected = plain_js(plain, "model.layers", IDS, keep=keep, branches=BRANCHES["qwen3"], site=site)
        np.testing.assert_allclose(trace.js_bits[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["torch.compile", "module.compile"])
def test_readouts_are_those_of_the_model(wrapper: str) -> None:
    """The readout of every layer is that of the model as it is written."""
    wrapped = lt.wrap_model(WRAPPERS[wrapper](build_tiny("gemma2")))
    readout = lt.read_layers(wrapped, SAMPLES[:1])
    expected = plain_readouts(build_tiny("gemma2"), "model.layers", IDS)
    np.testing.assert_allclose(readout.log_probs[0], expected, atol=1e-4)


def test_compiled_code_is_left_alone() -> None:
    """After tracing, a compiled model is compiled still, and its switch is where it was."""
    module = build_tiny("qwen3")
    calls: list[int] = []

    def counting(graph: torch.fx.GraphModule, example_inputs: object) -> Any:
        del example_inputs
        calls.append(1)
        return graph.forward

    torch.compiler.reset()
    compiled: Any = torch.compile(module, backend=counting)
    lt.trace(lt.wrap_model(compiled), SAMPLES)
    assert not calls  # nothing was compiled for the trace
    with torch.no_grad():
        compiled(torch.tensor([IDS]), use_cache=False)
    assert calls


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel() -> None:
    """A model in DistributedDataParallel is taken out of it."""
    module = build_tiny("qwen3")
    wrapped = lt.wrap_model(DistributedDataParallel(module))
    assert wrapped.module is module
    assert wrapped.name == "Qwen3ForCausalLM"
    own = lt.trace(tiny("qwen3"), SAMPLES)
    np.testing.assert_array_equal(lt.trace(wrapped, SAMPLES).js_bits, own.js_bits)


def test_fully_sharded_is_refused() -> None:
    """A model whose weights are sharded in one flat tensor is refused, with the way out."""

    class FullyShardedDataParallel(nn.Module):
        """What the real one looks like from outside: the model under a name of its own."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._fsdp_wrapped_module = module

    with pytest.raises(lt.AnatomyError, match=r"sharded.*full state dict"):
        lt.wrap_model(FullyShardedDataParallel(build_tiny("llama")))
