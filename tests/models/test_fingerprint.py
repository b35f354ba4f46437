"""The short name for a network's weights."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from layertracer.models import _fingerprint
from layertracer.models._fingerprint import fingerprint
from layertracer.models._loading import load_parts

from tests.models.tiny_checkpoints import randomize, save_checkpoint, tiny_gpt2, tiny_llama


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


class TestEqual:
    """What does not change a fingerprint."""

    @given(seed=st.integers(0, 1000), n_vocab=st.integers(2, 9), width=st.integers(1, 5))
    @settings(max_examples=25, deadline=None)
    def test_of_equal_weights(self, seed: int, n_vocab: int, width: int) -> None:
        """Equal weights have equal fingerprints of 64 hexadecimal digits."""
        module = plain_head(seed, n_vocab=n_vocab, width=width)
        assert fingerprint(module) == fingerprint(copy.deepcopy(module))
        assert int(fingerprint(module), 16) < 2**256
        assert len(fingerprint(module)) == 64

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

    @given(row=st.integers(0, 31), column=st.integers(0, 15), dtype=st.sampled_from(["float32", "bfloat16", "float16"]))
    @settings(max_examples=25, deadline=None)
    def test_any_value_of_a_large_head(self, row: int, column: int, dtype: str) -> None:
        """In a head too large to be hashed whole, every single value still counts."""
        sampled_bytes, _fingerprint._SAMPLED_BYTES = _fingerprint._SAMPLED_BYTES, 256
        try:
            model = tiny_llama().to(getattr(torch, dtype))
            before = fingerprint(model)
            with torch.no_grad():
                model.lm_head.weight[row, column] += 1.0
            assert fingerprint(model) != before
        finally:
            _fingerprint._SAMPLED_BYTES = sampled_bytes


class TestTolerant:
    """Weights that cannot be read, and modules without a head."""

    def test_offloaded_weights(self) -> None:
        """Weights on the meta device enter by shape, so that sizes still differ."""
        with torch.device("meta"):
            small, large = Head(), Head(width=5)
        assert fingerprint(small) == fingerprint(copy.deepcopy(small)) != fingerprint(large)

    def test_packed_weights(self) -> None:
        """A head of whole numbers, as quantisation packs it, is not read."""
        module = nn.Module()
        module.head = nn.Parameter(torch.ones(4, 2, dtype=torch.int8), requires_grad=False)
        before = fingerprint(module)
        module.head.data.fill_(2)
        assert fingerprint(module) == before

    @pytest.mark.parametrize(
        "module", [nn.Identity(), nn.LayerNorm(3), nn.Embedding(0, 3)], ids=["empty", "norm", "no rows"]
    )
    def test_no_head(self, module: nn.Module) -> None:
        """A module without any weight matrix has a fingerprint too."""
        assert fingerprint(module) == fingerprint(copy.deepcopy(module))
