"""Quantised models: their weights are never read, only their layers are called."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.models import fingerprint
from layertracer.models._weights.shapes import count_parameters, has_matrix, is_quantised

from tests.support.checkpoints.tiny import edit_config, randomize, save_checkpoint, tiny_llama
from tests.support.models.families import BRANCHES
from tests.support.oracles.plain_hooks import plain_js, plain_readouts

IDS = (5, 9, 33, 7, 60, 41, 2)
N_LAYERS, WIDTH = 4, 64
SAMPLES = [lt.Sample(prompt_ids=IDS, answer_id=11), lt.Sample(prompt_ids=IDS[::-1], answer_id=3)]

# Quantisers warn of what is not there: a GPU, faster kernels, names that PyTorch will change.
pytestmark = pytest.mark.filterwarnings("ignore")


def model() -> Any:
    """A Llama wide enough for the groups of quantisers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    module = randomize(LlamaForCausalLM(config), seed=0)
    module.lm_head.weight.data *= 3  # so that masks change the answer
    return module


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """What packages print and warn while they are imported is theirs."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def wanted(package: str) -> Any:
    """A package that this test needs; without it, the test is skipped."""
    try:
        is_there = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        pytest.skip(f"{package} is not installed")
    with unheard():
        return importlib.import_module(package)


def by_transformers(folder: Path, settings: Any, **more: Any) -> nn.Module:
    """The model quantised by transformers while it is loaded."""
    from transformers import AutoModelForCausalLM

    model().save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, **more)


def bits_and_bytes(**settings: Any) -> Callable[[Path], nn.Module]:
    """By bitsandbytes, with 4 or 8 bits."""

    def make(folder: Path) -> nn.Module:
        wanted("bitsandbytes")
        from transformers import BitsAndBytesConfig

        return by_transformers(folder, BitsAndBytesConfig(**settings))

    return make


def torch_ao(config: str) -> Callable[[Path], nn.Module]:
    """One of torchao's ways."""

    def make(folder: Path) -> nn.Module:
        quantization = wanted("torchao.quantization")
        from transformers import TorchAoConfig

        return by_transformers(folder, TorchAoConfig(getattr(quantization, config)()))

    return make


def quanto(folder: Path) -> nn.Module:
    """optimum-quanto with 8 bits."""
    wanted("optimum.quanto")
    from transformers import QuantoConfig

    return by_transformers(folder, QuantoConfig(weights="int8"))


def replace_maps(module: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """The model with every linear map of its layers replaced."""
    for path, part in list(module.named_modules()):
        if isinstance(part, nn.Linear) and path != "lm_head":
            module.set_submodule(path, make(part))
    return module.eval()


def rounded(linear: nn.Linear, *, group: int = 32) -> tuple[Tensor, Tensor, nn.Linear]:
    """Scales and zero points [output, group] for 4 bits, and the map with its weights rounded to them."""
    n_out, n_in = linear.weight.shape
    groups = linear.weight.detach().reshape(n_out, n_in // group, group)
    scales = ((groups.amax(-1) - groups.amin(-1)) / 15).half().float()
    zeros = (-groups.amin(-1) / scales).round().clamp(0, 15)
    whole = (groups / scales[..., None] + zeros[..., None]).round().clamp(0, 15)
    linear.weight.data = ((whole - zeros[..., None]) * scales[..., None]).reshape(n_out, n_in)
    return scales, zeros, linear


def gptq(folder: Path) -> nn.Module:
    """GPTQ's packed maps, by gptqmodel."""
    del folder
    wanted("gptqmodel")
    with unheard():
        packed_map = importlib.import_module("gptqmodel.nn_modules.qlinear.torch").TorchLinear

    def make(linear: nn.Linear) -> nn.Module:
        scales, zeros, linear = rounded(linear)
        sizes = {"in_features": linear.in_features, "out_features": linear.out_features}
        packed = packed_map(bits=4, group_size=32, sym=False, desc_act=False, register_buffers=True, **sizes)
        packed.pack(linear, scales, zeros, g_idx=torch.arange(linear.in_features) // 32)
        packed.post_init()
        return packed

    return replace_maps(model(), make)


def awq(folder: Path) -> nn.Module:
    """AWQ's packed maps, by autoawq."""
    del folder
    wanted("awq")
    with unheard():
        packed_map = importlib.import_module("awq.modules.linear.gemm").WQLinear_GEMM

    def make(linear: nn.Linear) -> nn.Module:
        scales, zeros, linear = rounded(linear)
        return packed_map.from_linear(linear, 4, 32, False, scales.t().contiguous(), zeros.t().contiguous())

    return replace_maps(model(), make)


class PackedMap(nn.Module):
    """A linear map as GPTQ and AWQ keep it: two 4-bit numbers a byte, in buffers, without a single parameter."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scales, zeros, linear = rounded(linear)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        whole = (linear.weight.detach() / scales.repeat_interleave(32, 1) + zeros.repeat_interleave(32, 1)).round()
        pairs = whole.to(torch.uint8).unflatten(1, (-1, 2))
        self.register_buffer("qweight", pairs[..., 0] | pairs[..., 1] << 4)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", zeros)

    def forward(self, inputs: Tensor) -> Tensor:
        """The map with its weights unpacked for the length of the call."""
        whole = torch.stack([self.qweight & 15, self.qweight >> 4], dim=-1).flatten(1)
        weight = (whole - self.zeros.repeat_interleave(32, 1)) * self.scales.repeat_interleave(32, 1)
        return inputs @ weight.T


def packed_in_buffers(folder: Path) -> nn.Module:
    """Maps without parameters, by nobody's package."""
    del folder
    return replace_maps(model(), PackedMap)


QUANTISED: dict[str, Callable[[Path], nn.Module]] = {
    "packed in buffers": packed_in_buffers,
    "bitsandbytes 4 bits": bits_and_bytes(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32),
    "bitsandbytes nf4, double": bits_and_bytes(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
    "bitsandbytes 8 bits": bits_and_bytes(load_in_8bit=True),
    "torchao int8": torch_ao("Int8WeightOnlyConfig"),
    "torchao int8, dynamic": torch_ao("Int8DynamicActivationInt8WeightConfig"),
    "torchao float8": torch_ao("Float8WeightOnlyConfig"),
    "quanto int8": quanto,
    "GPTQ": gptq,
    "AWQ": awq,
}


@pytest.mark.parametrize("kind", QUANTISED)
def test_equals_plain_hooks(tmp_path: Path, kind: str) -> None:
    """A quantised model passes its self-check and gives the numbers of plain hooks on itself, at every site."""
    module = QUANTISED[kind](tmp_path / "m")
    wrapped = lt.wrap_model(module)
    assert wrapped.self_check.method == "ladder"
    assert [(layer.mixer, layer.mlp) for layer in wrapped.anatomy.layers] == [("attention", "dense")] * N_LAYERS
    for site in ("block_output", "mixer_output", "mlp_output"):
        mask = lt.Mask(fraction=0.5, draws=2, site=site, seed=3)
        trace = lt.trace(wrapped, SAMPLES, perturbation=mask)
        keep = mask.keep_array(n_layers=N_LAYERS, width=WIDTH)
        for index, sample in enumerate(SAMPLES):
            assert sample.prompt_ids is not None
            expected = plain_js(
                module, "model.layers", sample.prompt_ids, keep=keep, branches=BRANCHES["llama"], site=site
            )
            # 8 bits are chosen anew for every batch: in bitsandbytes and in dynamic ways, what stands beside counts.
            np.testing.assert_allclose(trace.js_bits[index], expected, atol=1e-5)
            assert expected.max() > 1e-4
    readout = lt.read_layers(wrapped, SAMPLES[:1])
    np.testing.assert_allclose(readout.log_probs[0], plain_readouts(module, "model.layers", IDS), atol=1e-3)


@pytest.mark.parametrize("kind", QUANTISED)
def test_is_described(tmp_path: Path, kind: str) -> None:
    """A quantised layer counts the parameters that it stands for, and a quantised model has a fingerprint."""
    module = QUANTISED[kind](tmp_path / "m")
    wrapped = lt.wrap_model(module)
    plain = lt.wrap_model(model())
    assert [layer.n_parameters for layer in wrapped.anatomy.layers] == [
        layer.n_parameters for layer in plain.anatomy.layers
    ]
    assert fingerprint(module) == fingerprint(module)
    assert is_quantised(module)
    assert not is_quantised(plain.module)


@pytest.mark.parametrize("form", ["pack-quantized", "int-quantized", "float-quantized"])
def test_folder_of_compressed_tensors(tmp_path: Path, form: str) -> None:
    """A folder of compressed tensors, with 4 or 8 bits or 8-bit floating point, is loaded and traced."""
    wanted("compressed_tensors")
    loaded = lt.load_model(_compressed(tmp_path, form), device="cpu")
    assert loaded.self_check.method == "ladder"
    mask = lt.Mask(site="block_output", draws=5, seed=1)
    trace = lt.trace(loaded, SAMPLES[:1], perturbation=mask)
    keep = mask.keep_array(n_layers=N_LAYERS, width=WIDTH)
    np.testing.assert_allclose(trace.js_bits[0], plain_js(loaded.module, "model.layers", IDS, keep=keep), atol=1e-5)
    exact = lt.trace(lt.wrap_model(model()), SAMPLES[:1], perturbation=mask)
    assert 1e-5 < np.abs(trace.js_bits - exact.js_bits).max() < 0.1


def _compressed(folder: Path, form: str) -> Path:
    """A checkpoint in one of the forms of compressed-tensors, rounded to the nearest."""
    from safetensors.torch import save_file

    with unheard():
        tensors = importlib.import_module("compressed_tensors")
        quantization = importlib.import_module("compressed_tensors.quantization")
    bits, largest = {"pack-quantized": (4, 7.0), "int-quantized": (8, 127.0), "float-quantized": (8, 448.0)}[form]
    group = 32 if bits == 4 else None
    weights = {"num_bits": bits, "type": "float" if "float" in form else "int", "symmetric": True}
    weights |= {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    plan = quantization.QuantizationConfig.model_validate(
        {
            "quant_method": "compressed-tensors",
            "format": form,
            "ignore": ["lm_head"],
            "config_groups": {"all": {"targets": ["Linear"], "weights": weights}},
            "quantization_status": "frozen",
        }
    )
    module = model()
    with unheard():
        quantization.apply_quantization_config(module, plan)
        for part in module.modules():
            if hasattr(part, "weight_scale"):
                rows = part.weight.detach().unflatten(1, (-1, group or part.weight.shape[1]))
                part.weight_scale.data = (rows.abs().amax(-1) / largest).reshape(part.weight_scale.shape)
        compressor = tensors.ModelCompressor(quantization_config=plan)
        compressor.compress_model(module)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    module.config.save_pretrained(folder)
    compressor.update_config(folder)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_says_which_package_is_missing(tmp_path: Path) -> None:
    """A quantised folder whose package is not installed says which one to install."""
    folder = save_checkpoint(tmp_path / "m", tiny_llama())
    edit_config(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(lt.ModelLoadError, match=r"pip install.*bitsandbytes"):
        lt.load_model(folder, device="cpu")
    assert "quantization_config" in json.loads((folder / "config.json").read_text())


class TestWeights:
    """What is said of weights that are not read."""

    def test_matrices_in_buffers(self) -> None:
        """A packed matrix in a buffer is one; masks, tables and running means are none."""
        norm = nn.BatchNorm1d(4)
        table = nn.Module()
        table.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool))
        table.register_buffer("table", torch.ones(4, 4, dtype=torch.int64), persistent=False)
        assert not has_matrix(norm)
        assert not has_matrix(table)
        assert has_matrix(PackedMap(nn.Linear(32, 8, bias=False)))

    def test_counts_what_packed_maps_stand_for(self) -> None:
        """A packed map counts its inputs times its outputs and its bias; scales and zero points are no parameters."""
        packed = PackedMap(nn.Linear(32, 8, bias=False))
        assert count_parameters(packed) == 32 * 8
        packed.bias = nn.Parameter(torch.zeros(8))
        assert count_parameters(nn.Sequential(packed, nn.Linear(8, 3))) == 32 * 8 + 8 + 27
