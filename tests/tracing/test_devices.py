"""Models that accelerate spreads over devices, or loads from main memory or disk when they are needed."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import nn

import layertracer as lt

from tests.support.budgets import smallest
from tests.support.checkpoints.tiny import save_checkpoint, tiny_llama
from tests.support.models.families import BY_NAME, build_tiny
from tests.support.models.hybrids import Hybrid
from tests.support.models.offloaded import OFFLOADS, count_loads, offloaded
from tests.support.tiny import tiny

FAMILIES = ("llama", "jamba", "gpt2")
"""A Transformer, a hybrid of Mamba and attention with experts, and one with tied embeddings."""

SAMPLES = [
    lt.Sample(prompt_ids=(7, 23, 91, 4, 66, 38), answer_id=3),
    lt.Sample(prompt_ids=(12, 45, 3, 99, 31, 58), answer_id=9),
    lt.Sample(prompt_ids=(90, 33, 15, 62), answer_id=5),
]
ARRAYS = ("target_log_prob", "embedding_log_prob", "target_rank", "entropy_bits", "js_bits", "top_prob")
PERTURBATIONS = (
    lt.Mask(site="block_output", draws=2, fraction=0.5),
    lt.Mask(draws=2, fraction=0.5, site="mixer_output", fill="resample"),
    lt.Mask(site="block_output", draws=2, fraction=0.5, positions="last", fill="mean"),
    lt.Noise(draws=2, site="mlp_output"),
    lt.Skip(),
)


@cache
def resident(name: str, number: int) -> lt.Trace:
    """A trace of the model with its weights in memory, by the number of the perturbation."""
    return lt.trace(tiny(name), SAMPLES, perturbation=PERTURBATIONS[number])


def same_numbers(one: lt.Trace, other: lt.Trace) -> None:
    """Two traces say the same, within rounding."""
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("where", OFFLOADS)
@pytest.mark.parametrize("name", FAMILIES)
class TestOffload:
    """Weights that are loaded when they are needed."""

    def test_the_same_numbers(self, name: str, where: str, tmp_path: Path) -> None:
        """Offload changes no number of a trace or of a readout, and nothing that is said of the model."""
        away = lt.wrap_model(offloaded(build_tiny(name), where, tmp_path), name=name)
        for number, perturbation in enumerate(PERTURBATIONS):
            one, other = lt.trace(away, SAMPLES, perturbation=perturbation), resident(name, number)
            same_numbers(one, other)
            assert one.model == other.model
        readouts = [lt.read_layers(model, SAMPLES).log_probs for model in (away, tiny(name))]
        np.testing.assert_allclose(*readouts, rtol=1e-6, atol=1e-6)

    def test_the_same_proof(self, name: str, where: str, tmp_path: Path) -> None:
        """The layers, their kinds, the method and the sites that are proved are those of the model in memory."""
        away = lt.wrap_model(offloaded(build_tiny(name), where, tmp_path))
        here = tiny(name)
        assert [layer.to_record() for layer in away.anatomy.layers] == [
            layer.to_record() for layer in here.anatomy.layers
        ]
        assert away.self_check.method == "ladder"
        assert away.self_check.errors.keys() == here.self_check.errors.keys()
        assert away.self_check.passed
        assert (away.device, away.dtype) == (here.device, here.dtype)

    def test_a_layer_is_loaded_once_for_all_its_variants(self, name: str, where: str, tmp_path: Path) -> None:
        """One pass over one batch loads each layer once, and the rest of the model once, however many the draws."""
        away = lt.wrap_model(offloaded(build_tiny(name), where, tmp_path))
        lt.plan(away, SAMPLES[:2], perturbation=lt.Skip())  # what recurrent layers take is measured, once a model
        loads = count_loads(away.module)
        lt.trace(away, SAMPLES[:2], perturbation=lt.Skip(), audit=0)
        n_skip = by_layer(loads, name)
        loads.clear()
        lt.trace(away, SAMPLES[:2], perturbation=lt.Mask(site="block_output", draws=10, fraction=0.1), audit=0)
        assert by_layer(loads, name) == n_skip
        # Once for the clean run that looks at the site, once for the ladder, where plain hooks need draws × layers, and
        # once for the fingerprint.
        assert n_skip <= 3 < 10 * BY_NAME[name].n_layers
        # Once for the trace, and once more for the fingerprint.
        assert max(others(loads, name).values()) <= 2

    def test_the_head_is_not_loaded_for_every_chunk(self, name: str, where: str, tmp_path: Path) -> None:
        """However small the chunks of rows, what lies outside the layers is loaded once for the trace."""
        away = lt.wrap_model(offloaded(build_tiny(name), where, tmp_path))
        loads = count_loads(away.module)
        mask = lt.Mask(site="block_output", draws=2, fraction=0.5)
        memory = smallest(away, SAMPLES, mask)
        loads.clear()
        lt.trace(away, SAMPLES, perturbation=mask, memory=memory)
        assert by_layer(loads, name) > 2, "the budget cuts the pass into several"
        assert max(others(loads, name).values()) <= 2

    def test_nothing_stays_loaded(self, name: str, where: str, tmp_path: Path) -> None:
        """After a trace every weight is where it was, and every module's forward is the one it had."""
        module = offloaded(build_tiny(name), where, tmp_path)
        away = lt.wrap_model(module)
        before = forwards(module)
        lt.trace(away, SAMPLES, perturbation=lt.Mask(draws=2, fraction=0.5, site="mixer_output"))
        assert forwards(module) == before
        assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
        loads = count_loads(module)
        module(torch.tensor([[3, 5, 8]]))
        assert max(loads.values()) == 1
        assert by_layer(loads, name) == 1, "the next call loads every layer again"


def by_layer(loads: Counter[str], name: str) -> int:
    """The most loads of any parameter of a layer."""
    return max(n for parameter, n in loads.items() if parameter.startswith(BY_NAME[name].layers))


def others(loads: Counter[str], name: str) -> dict[str, int]:
    """Loads of what lies outside the layers."""
    return {parameter: n for parameter, n in loads.items() if not parameter.startswith(BY_NAME[name].layers)}


def forwards(module: nn.Module) -> list[object]:
    """For every part, the forward that stands in its place, if any, and its hooks."""
    return [
        (vars(part).get("forward"), len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()
    ]


def test_the_proof_loads_a_layer_a_bounded_number_of_times(tmp_path: Path) -> None:
    """The whole proof loads each layer at most thirty times, at any depth."""
    for kinds in (("mean+mlp", "attention+mlp"), ("mean+mlp", "attention+mlp") * 4):
        module = offloaded(Hybrid(kinds), "main memory", tmp_path)
        loads = count_loads(module)
        lt.wrap_model(module)
        assert max(n for name, n in loads.items() if name.startswith("layers.")) <= 30


def test_an_exception_leaves_weights_where_they_were() -> None:
    """A pass that a layer breaks off drops what was loaded and brings back every forward."""
    module = copy.deepcopy(build_tiny("llama"))
    cpu_offload(module, execution_device=torch.device("cpu"))
    model = lt.wrap_model(module)
    before = forwards(module)

    def fail(*_: object) -> None:
        raise ArithmeticError("not today")

    handle = module.get_submodule("model.layers.2").register_forward_hook(fail)
    with pytest.raises(lt.ModelError, match="not today"):
        lt.trace(model, SAMPLES)
    handle.remove()
    assert forwards(module) == before
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    same_numbers(lt.trace(model, SAMPLES), lt.trace(tiny("llama"), SAMPLES))


def test_weights_that_nothing_loads_are_refused() -> None:
    """A module on the meta device without a loader says which parameter has no values, and what to do."""
    with pytest.raises(lt.AnatomyError, match=r"embed\.weight is on the meta device.*Load the weights first"):
        lt.wrap_model(Hybrid().to("meta"))


def test_taken_apart_recurrences_are_refused() -> None:
    """A recurrent module of several layers cannot be taken apart where its weights come and go."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(20, 8), nn.LSTM(8, 8, num_layers=3, batch_first=True)
            self.head = nn.Linear(8, 20)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.lstm(self.embed(ids))[0])
            return logits

    module = Recurrent()
    cpu_offload(module, execution_device=torch.device("cpu"))
    with pytest.raises(lt.AnatomyError, match=r"recurrent module of several layers.*Load it on one device"):
        lt.wrap_model(module)


class TestDeviceMap:
    """Models that are spread while they are loaded."""

    MAP = {  # noqa: RUF012 - read only
        "model.embed_tokens": "disk",
        "model.layers.0": "disk",
        "model.layers.1": "cpu",
        "model.rotary_emb": "cpu",
        "model.norm": "cpu",
        "lm_head": "disk",
    }

    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, {"": "disk"}, MAP], ids=str)
    def test_the_same_numbers(self, device_map: str | dict[str, str], tied: bool, tmp_path: Path) -> None:
        """Wherever its parts lie, a checkpoint gives the numbers and the name of its weights in memory."""
        folder = save_checkpoint(tmp_path / "model", tiny_llama(tied=tied))
        spread = lt.load_model(folder, device_map=device_map, offload_folder=tmp_path / "offload")
        samples = [
            lt.Sample(prompt_ids=(3, 4, 5, 6, 7), answer_id=4),
            lt.Sample(prompt_ids=(9, 4, 5, 6, 7), answer_id=8),
        ]
        one, other = (lt.trace(model, samples) for model in (spread, lt.load_model(folder)))
        same_numbers(one, other)
        assert one.model == other.model

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"device_map": "everywhere"}, lt.UnknownNameError, "Unknown device_map 'everywhere'.*balanced"),
            ({"device_map": {}}, lt.UsageError, "device_map is empty"),
            ({"device_map": {"": "tape"}}, lt.UsageError, "Unknown device 'tape'"),
            ({"device_map": "auto", "device": "cpu"}, lt.UsageError, "both say where the model goes"),
            ({"offload_folder": "x"}, lt.UsageError, "there is no device_map"),
        ],
    )
    def test_what_means_nothing_is_refused(
        self, settings: dict[str, object], error: type[Exception], message: str, tmp_path: Path
    ) -> None:
        """A map that cannot be meant is refused before anything is loaded, with what could be."""
        with pytest.raises(error, match=message):
            lt.load_model(tmp_path, **settings)


def test_no_thread_count_is_changed() -> None:
    """How many threads PyTorch uses is the user's choice."""
    before = torch.get_num_threads(), torch.get_num_interop_threads()
    lt.trace(tiny("llama"), SAMPLES)
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == before
