"""The name for a network's weights: equal for equal weights, and for no others."""

from __future__ import annotations

import copy
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from layertracer.models._sources import load_parts
from layertracer.models._weights import digests as _tensor_digests
from layertracer.models._weights.digests import digest_all, digest_values
from layertracer.models._weights.fingerprint import fingerprint
from layertracer.models._weights.shapes import named_weights

from tests.support.checkpoints.tiny import randomize, save_checkpoint, tiny_gpt2, tiny_llama
from tests.support.models.offloaded import OFFLOADS, offloaded

FLOATS = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
OTHERS = ("int64", "int32", "int16", "int8", "uint8", "bool", "complex64")


class Head(nn.Module):
    """An embedding and a head, without any method of transformers."""

    def __init__(self, n_vocab: int = 12, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, width)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("passing", torch.ones(1), persistent=False)
        self.head = nn.Linear(width, n_vocab)


def plain_head(seed: int = 0, **sizes: int) -> nn.Module:
    """A `Head` with random weights."""
    return randomize(Head(**sizes), seed=seed)


def every_type() -> nn.Module:
    """A module with a parameter or buffer of every type, of no, one and several dimensions, and without an entry."""
    module = nn.Module()
    generator = torch.Generator().manual_seed(0)
    for name in FLOATS:
        values = torch.randn(3, 5, generator=generator).to(getattr(torch, name))
        module.register_parameter(f"as_{name}", nn.Parameter(values, requires_grad=False))
    for name in OTHERS:
        values = torch.randint(0, 2, (2, 3, 4), generator=generator).to(getattr(torch, name))
        module.register_buffer(f"as_{name}", values)
    module.register_buffer("scalar", torch.tensor(1.5))
    module.register_buffer("empty", torch.empty(0, 7))
    module.register_buffer("strided", torch.randn(9, 6, generator=generator)[::2, 1::3])
    return module


def flip_bit(tensor: torch.Tensor, generator: random.Random) -> None:
    """One bit of a tensor turned over, by its own memory; of truth values, one value."""
    index = tuple(generator.randrange(size) for size in tensor.shape)
    one = tensor.data[index]
    if tensor.dtype == torch.bool:
        tensor.data[index] = ~one
        return
    raw = one.clone().reshape(1).view(torch.uint8)
    raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
    tensor.data[index] = raw.view(tensor.dtype)[0]


class TestEqual:
    """What does not change a fingerprint."""

    @given(seed=st.integers(0, 1000), n_vocab=st.integers(2, 9), width=st.integers(1, 5))
    @settings(max_examples=25, deadline=None)
    def test_of_equal_weights(self, seed: int, n_vocab: int, width: int) -> None:
        """Equal weights have equal fingerprints: "v2-" and 64 hexadecimal digits, which no file system minds."""
        module = plain_head(seed, n_vocab=n_vocab, width=width)
        assert fingerprint(module) == fingerprint(copy.deepcopy(module))
        form, _, digits = fingerprint(module).partition("-")
        assert form == "v2"
        assert int(digits, 16) < 2**256
        assert len(digits) == 64

    def test_after_saving_and_loading(self, tmp_path: Path) -> None:
        """A model that was saved and loaded keeps its fingerprint."""
        model = tiny_llama()
        assert fingerprint(load_parts(save_checkpoint(tmp_path / "m", model), device="cpu").module) == fingerprint(
            model
        )

    def test_after_use(self) -> None:
        """Running a model, and buffers that are not part of its weights, change nothing."""
        model, module = tiny_llama(), plain_head()
        before = fingerprint(model), fingerprint(module)
        model(torch.tensor([[1, 2, 3]]))
        module.passing = torch.zeros(7)
        assert (fingerprint(model), fingerprint(module)) == before

    def test_on_another_memory_layout(self) -> None:
        """How a weight lies in memory does not matter."""
        module, turned = plain_head(), plain_head()
        turned.head.weight = nn.Parameter(turned.head.weight.detach().t().contiguous().t())
        assert not turned.head.weight.is_contiguous()
        assert fingerprint(module) == fingerprint(turned)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
    def test_on_a_gpu(self) -> None:
        """The device does not matter."""
        assert fingerprint(tiny_llama()) == fingerprint(tiny_llama().to("cuda"))

    @pytest.mark.parametrize("where", OFFLOADS)
    @pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
    def test_of_offloaded_weights(self, where: str, tied: bool, tmp_path: Path) -> None:
        """Weights that are offloaded are fetched: the fingerprint is that of the model in memory."""
        model = tiny_llama(tied=tied)
        assert fingerprint(offloaded(model, where, tmp_path)) == fingerprint(model)

    def test_of_tied_weights(self) -> None:
        """A tied weight counts under each of its names, as two equal ones do."""
        tied, apart = plain_head(), plain_head()
        tied.head.weight = tied.embed.weight
        apart.head.weight = nn.Parameter(apart.embed.weight.detach().clone())
        assert fingerprint(tied) == fingerprint(apart)

    def test_of_every_type_in_every_layout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Views, strides, chunks and threads do not matter, for numbers of any type."""
        plain, strided = every_type(), every_type()
        for name, tensor in list(named_weights(strided).items()):
            if tensor.ndim > 1 and tensor.numel():
                turned = tensor.data.transpose(0, -1).contiguous().transpose(0, -1)
                assert not turned.is_contiguous()
                is_parameter = name in strided._parameters
                owner = strided._parameters if is_parameter else strided._buffers
                owner[name] = nn.Parameter(turned, requires_grad=False) if is_parameter else turned
        expected = fingerprint(plain)
        monkeypatch.setattr(_tensor_digests, "_CHUNK_BYTES", 16)
        assert fingerprint(strided) == expected
        n_threads = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            assert fingerprint(plain) == expected
        finally:
            torch.set_num_threads(n_threads)

    def test_of_conjugates(self) -> None:
        """A conjugate that is only marked as one is read as its values."""
        numbers = torch.tensor([1 + 2j, 3 - 1j])
        assert digest_values(numbers.conj()) == digest_values(torch.tensor([1 - 2j, 3 + 1j]))

    def test_values_are_hashed_in_the_order_of_their_indices(self) -> None:
        """The digest is SHA-256 of the bytes, row by row, as any other program computes it."""
        numbers = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
        assert digest_values(numbers.t()) == hashlib.sha256(numbers.numpy().T.copy().tobytes()).hexdigest()

    def test_sparse(self) -> None:
        """A sparse weight enters by its values."""
        numbers = torch.eye(3)
        assert digest_values(numbers.to_sparse()) == digest_values(numbers)


class TestDifferent:
    """What changes it."""

    @pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2, plain_head], ids=["llama", "tied", "plain module"])
    def test_another_head(self, build: type) -> None:
        """Other values in the output embedding give another fingerprint, whether it is tied, named or neither."""
        assert fingerprint(build(seed=0)) != fingerprint(build(seed=1))

    def test_another_shape_name_or_type(self) -> None:
        """Another size, name or floating-point type gives another fingerprint."""
        renamed = plain_head()
        renamed.add_module("other", renamed._modules.pop("embed"))
        variants = [plain_head(), plain_head(n_vocab=13), plain_head(width=5), plain_head().to(torch.bfloat16), renamed]
        assert len({fingerprint(variant) for variant in variants}) == len(variants)

    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=150, deadline=None)
    def test_any_bit_of_any_weight(self, seed: int) -> None:
        """One bit in any parameter or buffer, of any type and layout, gives another fingerprint."""
        module, generator = every_type(), random.Random(seed)
        before = fingerprint(module)
        name = generator.choice([name for name, tensor in named_weights(module).items() if tensor.numel()])
        flip_bit(named_weights(module)[name], generator)
        assert fingerprint(module) != before, name

    @pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2], ids=["llama", "tied"])
    def test_every_weight_of_a_model(self, build: type) -> None:
        """A bit in each weight of a model in turn gives a fingerprint of its own."""
        model, generator = build(), random.Random(0)
        weights = named_weights(model)
        distinct = {id(tensor): tensor for tensor in weights.values()}
        found = {fingerprint(model)}
        for tensor in distinct.values():
            before = tensor.detach().clone()
            flip_bit(tensor, generator)
            found.add(fingerprint(model))
            tensor.data.copy_(before)
        assert len(found) == len(distinct) + 1

    def test_exchanged_weights(self) -> None:
        """Two weights of one shape exchanged give another fingerprint, and so do two rows of one weight."""
        model = tiny_llama()
        one, other = (layer.self_attn.q_proj.weight for layer in model.model.layers)
        found = {fingerprint(model)}
        one.data, other.data = other.data, one.data
        found.add(fingerprint(model))
        one.data[[0, 1]] = one.data[[1, 0]]
        found.add(fingerprint(model))
        assert len(found) == 3

    def test_compensating_changes(self) -> None:
        """Changes whose sum is zero do not cancel."""
        module = plain_head()
        before = fingerprint(module)
        bits = module.embed.weight.data.view(torch.int32)
        bits[0, 0] += 1
        bits[5, 2] -= 1
        assert fingerprint(module) != before

    @pytest.mark.parametrize("value", [-0.0, float("nan")])
    def test_values_that_compare_oddly(self, value: float) -> None:
        """It is the bits that count: minus zero is not zero, and a NaN is the same NaN."""
        module, other = plain_head(), plain_head()
        module.scale.fill_(abs(value))
        other.scale.fill_(value)
        assert (fingerprint(module) == fingerprint(other)) == (value != 0)

    def test_changes_in_place(self) -> None:
        """Nothing is remembered: a change in place, past everything that PyTorch notices, shows at once."""
        module = plain_head()
        before = fingerprint(module)
        module.embed.weight.detach().numpy()[3, 1] += 1
        assert fingerprint(module) != before

    def test_names_that_look_like_others(self) -> None:
        """A name cannot be made to look like a line of another weight."""
        one, other = nn.Module(), nn.Module()
        one.register_buffer("a", torch.ones(1))
        other._buffers["a'\t(1,)\ttorch.float32\tx\n'b"] = torch.ones(1)
        assert fingerprint(one) != fingerprint(other)


class Pair(torch.Tensor):
    """A tensor made of two others, as those of quantising packages are."""

    low: torch.Tensor
    high: torch.Tensor

    @staticmethod
    def __new__(cls: Any, low: torch.Tensor, high: torch.Tensor) -> Any:
        """A tensor that has no memory of its own."""
        made = torch.Tensor._make_wrapper_subclass(cls, low.shape, dtype=torch.float32)
        made.low, made.high = low, high
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """The names of the parts."""
        return ["low", "high"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """It can be detached, and nothing else."""
        if func is torch.ops.aten.detach.default:
            return cls(args[0].low, args[0].high)
        raise NotImplementedError(func)


class Unreadable(torch.Tensor):
    """A tensor that shows no values."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """It has a shape and a type, and that is all."""
        if getattr(func, "__name__", "") in {"detach", "numpy", "cpu", "as_subclass"}:
            raise RuntimeError("no values here")
        return super().__torch_function__(func, types, args, kwargs or {})


class TestTolerant:
    """Weights that are packed or cannot be read, and modules without a head."""

    def test_weights_that_nothing_loads(self) -> None:
        """Weights on the meta device that nothing loads enter by shape, so that sizes still differ."""
        with torch.device("meta"):
            small, large = Head(), Head(width=5)
        assert fingerprint(small) == fingerprint(copy.deepcopy(small)) != fingerprint(large)

    def test_packed_weights(self) -> None:
        """Weights of whole numbers, as quantisation packs them, enter by their bytes."""
        module = nn.Module()
        module.head = nn.Parameter(torch.ones(4, 2, dtype=torch.int8), requires_grad=False)
        before = fingerprint(module)
        module.head.data[3, 1] = 2
        assert fingerprint(module) != before

    def test_tensors_made_of_tensors(self) -> None:
        """Such a weight enters by its parts, each under its name."""
        low, high = torch.zeros(2, 2, dtype=torch.int8), torch.ones(2, 2, dtype=torch.int8)
        digests = [digest_values(pair) for pair in (Pair(low, high), Pair(high, low), Pair(low, low))]
        assert digests[0] == digest_values(Pair(low.clone(), high.clone()))
        assert None not in digests
        assert len(set(digests)) == 3

    def test_a_class_of_somebodys_own(self) -> None:
        """A tensor of another class with a memory of its own enters by its bytes."""

        class Own(torch.Tensor):
            pass

        numbers = torch.arange(6.0)
        assert digest_values(numbers.as_subclass(Own)) == digest_values(numbers)

    def test_values_that_cannot_be_read(self) -> None:
        """What shows no values has no digest, and the fingerprint is there nevertheless."""
        module = nn.Module()
        module.register_buffer("odd", torch.ones(2).as_subclass(Unreadable))
        module.register_buffer("plain", torch.ones(2))
        assert digest_values(module.odd) is None
        assert digest_values(torch.empty(2, device="meta")) is None
        before = fingerprint(module)
        module.plain[0] = 2
        assert fingerprint(module) != before

    def test_offload_that_is_gone(self, tmp_path: Path) -> None:
        """Where what was offloaded is gone, the fingerprint is another one, and no trace is lost."""
        model = tiny_llama()
        away = offloaded(model, "disk", tmp_path)
        for path in tmp_path.iterdir():
            path.unlink()
        assert fingerprint(away).startswith("v2-")
        assert fingerprint(away) != fingerprint(model)

    def test_all_under_their_names(self) -> None:
        """Of several tensors each has the digest that it has alone."""
        tensors = {"a": torch.ones(2), "b": torch.zeros(2)}
        assert digest_all(tensors) == {name: digest_values(tensor) for name, tensor in tensors.items()}
        assert digest_all({}) == {}

    @pytest.mark.parametrize(
        "module", [nn.Identity(), nn.LayerNorm(3), nn.Embedding(0, 3)], ids=["empty", "norm", "no rows"]
    )
    def test_no_head(self, module: nn.Module) -> None:
        """A module without any weight matrix has a fingerprint too."""
        assert fingerprint(module) == fingerprint(copy.deepcopy(module))
