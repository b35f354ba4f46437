"""Lenses on a disk: read whole or refused, for their own model alone; published ones by their own keys."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer._errors import DamagedRunError, RunError, RunFormatError, UsageError
from layertracer.tracing import AffineLens, describe_lens, fit_lens, load_lens

from tests.support.tiny import fresh, tiny


def rows_of_ids(n_rows: int = 6, length: int = 24) -> list[list[int]]:
    """Random token ids."""
    return np.random.default_rng(0).integers(3, 101, (n_rows, length)).tolist()


@pytest.fixture(scope="module")
def lens() -> AffineLens:
    """A linear lens of a tiny model."""
    return fit_lens(tiny("llama"), rows_of_ids(), kind="linear")


@pytest.fixture
def saved(lens: AffineLens, tmp_path: Path) -> Path:
    """The same, saved."""
    return lens.save(tmp_path / "lens")


def test_what_is_loaded_is_what_was_saved(lens: AffineLens, saved: Path, tmp_path: Path) -> None:
    """Every number, name, fallback and report; the same lens gives the same bytes."""
    loaded = load_lens(saved, tiny("llama"))
    assert torch.equal(loaded.weights, lens.weights)
    assert torch.equal(loaded.biases, lens.biases)
    assert loaded.details == lens.details
    assert loaded.name == "linear"
    np.testing.assert_array_equal(loaded.quality.kl_nats, lens.quality.kl_nats)
    again = loaded.save(tmp_path / "again")
    for file in ("lens.json", "lens.safetensors"):
        assert (again / file).read_bytes() == (saved / file).read_bytes()
    assert load_lens(saved / "lens.json", tiny("llama")).details == lens.details
    other = lt.load_lens(saved, tiny("llama"), name="other")
    assert other.name == other.quality.lens == "other"
    np.testing.assert_array_equal(other.quality.kl_nats, lens.quality.kl_nats)
    assert set(other.details["reports"]) == {"other", "logit"}


def test_a_lens_is_not_written_over_unasked(lens: AffineLens, saved: Path) -> None:
    """Nor does it replace a folder of something else."""
    with pytest.raises(RunError, match="a lens at"):
        lens.save(saved)
    lens.save(saved, overwrite=True)
    other = saved.parent / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other things"):
        lens.save(other, overwrite=True)


@pytest.mark.parametrize("file", ["lens.json", "lens.safetensors"])
def test_any_altered_byte_is_noticed(saved: Path, file: str) -> None:
    """At many places of both files; and where a file is cut short, empty or missing."""
    model, whole = tiny("llama"), (saved / file).read_bytes()
    for place in np.linspace(0, len(whole) - 1, 60).astype(int).tolist():
        (saved / file).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((DamagedRunError, RunFormatError), match=r"is damaged|Upgrade"):
            load_lens(saved, model)
        with pytest.raises((DamagedRunError, RunFormatError), match=r"is damaged|Upgrade"):
            describe_lens(saved)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        (saved / file).write_bytes(whole[:cut])
        with pytest.raises(DamagedRunError, match="is damaged"):
            load_lens(saved, model)
    (saved / file).unlink()
    with pytest.raises((DamagedRunError, RunError), match=r"is damaged|holds no lens.json"):
        load_lens(saved, model)


def test_numbers_that_are_none_are_refused(lens: AffineLens, tmp_path: Path) -> None:
    """NaN in a matrix, though the checksums fit."""
    weights = lens.weights.clone()
    weights[1, 2, 3] = torch.nan
    bad = AffineLens(kind="linear", weights=weights, biases=lens.biases, unembedding=lens.unembedding)
    with pytest.raises(DamagedRunError, match="NaN or infinity"):
        load_lens(bad.save(tmp_path / "bad"), tiny("llama"))


def test_another_model_is_refused(saved: Path) -> None:
    """Of another width, number of layers, or unembedding; a change below the last layer changes nothing."""
    with pytest.raises(UsageError, match="layers and width"):
        load_lens(saved, tiny("gpt2"))
    other: Any = fresh("llama")
    with torch.no_grad():
        other.lm_head.weight[5, 5] += 0.5
    with pytest.raises(UsageError, match="another unembedding"):
        load_lens(saved, lt.wrap_model(other, name="other"))
    normed: Any = fresh("llama")
    with torch.no_grad():
        normed.model.norm.weight[3] += 0.5
    with pytest.raises(UsageError, match="another unembedding"):
        load_lens(saved, lt.wrap_model(normed, name="normed"))
    below: Any = fresh("llama")
    with torch.no_grad():
        below.model.layers[0].mlp.up_proj.weight[0, 0] += 0.5
        below.model.embed_tokens.weight[7, 0] += 0.5
    assert load_lens(saved, lt.wrap_model(below, name="below")).kind == "linear"


def test_the_same_model_in_another_type_is_the_same(saved: Path) -> None:
    """In bfloat16 the weights are rounded, and the tail is known by what it makes of fixed rows."""
    assert load_lens(saved, lt.wrap_model(fresh("llama").to(torch.bfloat16), name="half")).kind == "linear"
    other: Any = fresh("llama").to(torch.bfloat16)
    with torch.no_grad():
        other.lm_head.weight.copy_(other.lm_head.weight.flip(0))
    with pytest.raises(UsageError, match="differs by more than the types"):
        load_lens(saved, lt.wrap_model(other, name="other"))


def test_what_is_no_lens_is_refused_with_its_kind(tmp_path: Path, saved: Path) -> None:
    """Nothing, an empty folder, a run's folder, a header of another program."""
    with pytest.raises(RunError, match="There is no lens at"):
        load_lens(tmp_path / "nothing", tiny("llama"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"holds no lens\.json"):
        load_lens(tmp_path / "empty", tiny("llama"))
    foreign = tmp_path / "foreign"
    shutil.copytree(saved, foreign)
    (foreign / "lens.json").write_text(json.dumps({"format": "other", "format_version": 1}))
    with pytest.raises(DamagedRunError, match="does not say"):
        load_lens(foreign, tiny("llama"))


def write_tuned(folder: Path, *, n_layers: int, width: int, **changes: Any) -> nn.ModuleList:
    """A tuned lens as the package tuned-lens saves it: translators of the embeddings and all layers but the last."""
    folder.mkdir()
    translators = nn.ModuleList([nn.Linear(width, width) for _ in range(n_layers)])
    config = {
        "base_model_name_or_path": "tiny",
        "d_model": width,
        "num_hidden_layers": n_layers,
        "bias": True,
        "base_model_revision": None,
        "unembed_hash": "0" * 64,
        "lens_type": "linear_tuned_lens",
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    torch.save(translators.state_dict(), folder / "params.pt")
    return translators


def test_published_tuned_lenses_load_by_their_keys(tmp_path: Path) -> None:
    """H + W h + b, row 0 for the embeddings; only where pickles are allowed."""
    model = tiny("llama")
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    translators = write_tuned(tmp_path / "tuned", n_layers=n_layers, width=width)
    with pytest.raises(RunError, match="allow_pickle=True"):
        load_lens(tmp_path / "tuned", model)
    lens = lt.load_lens(tmp_path / "tuned", model, allow_pickle=True)
    rows = torch.randn(4, width)
    for layer in range(-1, n_layers - 1):
        expected: Tensor = (rows + translators[layer + 1](rows)).detach()
        torch.testing.assert_close(lens.translate(rows, layer), expected)
    assert lens.kind == lens.name == "tuned"
    assert lens.details["base_model_name_or_path"] == "tiny"
    with pytest.raises(UsageError, match="came without a report"):
        _ = lens.quality
    readout = lt.read_layers(model, [lt.Sample(prompt_ids=(5, 6, 7))], lens=lens)
    assert set(readout.lenses) == {"tuned"}


def test_published_jacobian_lenses_load_by_their_keys(tmp_path: Path) -> None:
    """J h at the layers that were fitted, in float16 as published; elsewhere, and at the embeddings, nothing."""
    model = tiny("llama")
    width = model.anatomy.d_model
    matrices = {layer: torch.randn(width, width).half() for layer in (0, 2)}
    content = {"J": matrices, "n_prompts": 7, "source_layers": [0, 2], "d_model": width}
    torch.save(content, tmp_path / "lens.pt")
    with pytest.raises(RunError, match="allow_pickle=True"):
        load_lens(tmp_path / "lens.pt", model)
    for path in (tmp_path / "lens.pt", tmp_path):
        lens = load_lens(path, model, allow_pickle=True)
        assert lens.fallback == (-1, 1)
        assert lens.details["n_prompts"] == 7
        rows = torch.randn(4, width)
        for layer, matrix in matrices.items():
            torch.testing.assert_close(lens.translate(rows, layer), rows @ matrix.float().T)
        assert lens.translate(rows, 1) is rows


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self._path, "harm")


def test_published_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    """No code in them runs; shapes, keys, NaN, cut files and other models are told apart."""
    model = tiny("llama")
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    good = {"J": {0: torch.eye(width)}, "n_prompts": 1, "source_layers": [0], "d_model": width}
    bad: list[tuple[Any, str]] = [
        ({key: value for key, value in good.items() if key != "J"}, "it has no 'J'"),
        (good | {"J": {0: torch.full((width, width), torch.nan)}}, "NaN or infinity"),
        (good | {"J": {0: torch.eye(width + 1)}}, "numbers of shape"),
        (good | {"J": {"0": torch.eye(width)}}, "no dictionary of matrices"),
        (good | {"source_layers": [1]}, "source_layers are not"),
        ([1, 2], "no names"),
        (Harmful(tmp_path / "harm"), "cannot be used as a lens"),
    ]
    for number, (content, match) in enumerate(bad):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(DamagedRunError, match=match):
            load_lens(path, model, allow_pickle=True)
    assert not (tmp_path / "harm").exists()
    for content, match in [
        (good | {"d_model": width + 8}, "is for a model of width"),
        (good | {"J": {n_layers - 1: torch.eye(width)}, "source_layers": [n_layers - 1]}, "can be translated"),
    ]:
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(UsageError, match=match):
            load_lens(tmp_path / "other.pt", model, allow_pickle=True)
    whole = (tmp_path / "1.pt").read_bytes()
    for content_bytes in (b"", b"no pickle", whole[: len(whole) // 2], pickle.dumps({"J": 1})):
        (tmp_path / "cut.pt").write_bytes(content_bytes)
        with pytest.raises(DamagedRunError, match="cannot be used as a lens"):
            load_lens(tmp_path / "cut.pt", model, allow_pickle=True)
    write_tuned(tmp_path / "shallow", n_layers=n_layers - 1, width=width)
    with pytest.raises(UsageError, match="layers and width"):
        load_lens(tmp_path / "shallow", model, allow_pickle=True)
    write_tuned(tmp_path / "lying", n_layers=n_layers - 1, width=width, num_hidden_layers=n_layers)
    with pytest.raises(DamagedRunError, match="translators"):
        load_lens(tmp_path / "lying", model, allow_pickle=True)
    write_tuned(tmp_path / "other_type", n_layers=n_layers, width=width, lens_type="mlp")
    with pytest.raises(DamagedRunError, match="lens_type"):
        load_lens(tmp_path / "other_type", model, allow_pickle=True)


def test_a_stored_safetensors_file_has_plain_names(saved: Path) -> None:
    """Anybody can read the matrices without LayerTracer."""
    tensors = safetensors.torch.load_file(saved / "lens.safetensors")
    assert set(tensors) == {"weights", "biases"}
