"""Checkpoints made to hang, to fill the memory, to run code or to write on the terminal. Each is one alteration."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ESCAPE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202eevil\u2028\x9b31m\r\n"
"""Sets the clipboard, clears the screen, turns the text, and begins lines of its own."""

Build = Callable[[Path], None]
SLOW_REGEX = r"(?:.{1,3}){1,14}[\x00-\x02]"
"""Tries three to the power of fourteen ways at every place of a text that holds such a character further on."""

PANIC_REGEX = r"(a+)+$"


def config(**settings: Any) -> Build:
    """Other settings in config.json."""
    return lambda folder: edit(folder / "config.json", lambda old: old | settings)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Write a JSON file anew."""
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def tokenizer(**parts: Any) -> Build:
    """Other parts of tokenizer.json."""
    return lambda folder: edit(folder / "tokenizer.json", lambda old: old | parts)


def tokenizer_config(**settings: Any) -> Build:
    """Other settings in tokenizer_config.json."""
    return lambda folder: edit(folder / "tokenizer_config.json", lambda old: old | settings)


def text(name: str, content: str | bytes) -> Build:
    """A file with that content."""
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    return lambda folder: _replace(folder / name, lambda path: path.write_bytes(data))


def sparse(name: str, n_bytes: int) -> Build:
    """A file of that size of which nothing lies on the disk."""
    return lambda folder: os.truncate(folder / name, n_bytes)


def pipe(name: str) -> Build:
    """A pipe that nobody writes into, in place of a file."""
    return lambda folder: _replace(folder / name, os.mkfifo)


def link(name: str, target: str) -> Build:
    """A link in place of a file."""
    return lambda folder: _replace(folder / name, lambda path: path.symlink_to(target))


def shards(weight_map: Any) -> Build:
    """An index in place of the weights."""

    def build(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return build


def header(value: Any, *, length: int | None = None) -> Build:
    """A safetensors file with that list of tensors and hardly any weights."""
    content = json.dumps(value).encode()
    size = (len(content) if length is None else length).to_bytes(8, "little")
    return text("model.safetensors", size + content + bytes(64))


def both(first: Build, second: Build) -> Build:
    """Two alterations."""

    def build(folder: Path) -> None:
        first(folder)
        second(folder)

    return build


def _without(name: str) -> Build:
    return lambda folder: (folder / name).unlink()


def _replace(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def programs(folder: Path) -> None:
    """Programs that leave a trace wherever one may be looked for, and settings that name them."""
    leave = f"open({str(folder / 'executed')!r}, 'w').write(__name__)\n"
    for name in ("__init__", "modeling_evil", "configuration_evil", "tokenization_evil", "json", "conftest", "evil"):
        (folder / f"{name}.py").write_text(leave)
    for name in ("custom_generate", "additional_chat_templates"):
        (folder / name).mkdir()
    (folder / "custom_generate" / "generate.py").write_text(leave)
    names = {
        "AutoConfig": "configuration_evil.Config",
        "AutoModelForCausalLM": "modeling_evil.Model",
        "AutoTokenizer": ["tokenization_evil.Tokenizer", None],
    }
    config(auto_map=names, custom_generate=str(folder), custom_pipelines={"evil": {"impl": "evil.Evil"}})(folder)
    tokenizer_config(auto_map={"AutoTokenizer": ["tokenization_evil.Tokenizer", None]})(folder)
    (folder / "generation_config.json").write_text(json.dumps({"custom_generate": str(folder), "auto_map": names}))
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _word_level(**words: int) -> dict[str, Any]:
    return {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, **words}, "unk_token": "<unk>"}


def _replace_step(pattern: Mapping[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": dict(pattern), "content": content}


_DOUBLING = [_replace_step({"String": "a"}, "aa")] * 40
_FAR = {"id": 10**9, "content": "far", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

REFUSED: dict[str, tuple[Build, str]] = {
    "a million layers": (config(num_hidden_layers=10**6), "asks for num_hidden_layers = 1,000,000"),
    "layers without end": (config(num_hidden_layers=10**12), "asks for num_hidden_layers = 1,000,000,000,000"),
    "no layers": (config(num_hidden_layers=0), "asks for num_hidden_layers = 0"),
    "fewer than no layers": (config(num_hidden_layers=-3), "asks for num_hidden_layers = -3"),
    "positions without end": (config(model_type="mpt", max_seq_len=4 * 10**9), "asks for max_seq_len = 4,000,000,000"),
    "a function for a dtype": (config(dtype="load"), "asks for dtype = 'load', which is no type of weights"),
    "a program for a dtype": (config(dtype=f"os{ESCAPE}"), "which is no type of weights"),
    "layers as a float": (config(num_hidden_layers=1.5e9), "asks for num_hidden_layers = 1,500,000,000"),
    "layers as a text": (config(num_hidden_layers="two"), "cannot be loaded"),
    "layers as a list": (config(num_hidden_layers=[2]), "cannot be loaded"),
    "layers in a text model": (config(text_config={"num_hidden_layers": 10**7}), "asks for num_hidden_layers"),
    "experts without end": (config(model_type="mixtral", num_local_experts=10**9), "asks for num_local_experts"),
    "a wide stream": (config(hidden_size=10**6), "asks for .* parameters, and its files hold"),
    "a wide MLP": (config(intermediate_size=10**10), "asks for .* parameters"),
    "a large vocabulary": (config(vocab_size=10**12), "asks for .* parameters"),
    "sizes beyond 64 bits": (config(hidden_size=10**30), "cannot be loaded"),
    "wide heads": (config(head_dim=10**9), "asks for .* parameters"),
    "negative width": (config(hidden_size=-16), "cannot be loaded"),
    "width 0": (config(hidden_size=0), "cannot be loaded|do not fit"),
    "width as a NaN": (config(hidden_size=float("nan")), "cannot be loaded"),
    "no heads": (config(num_attention_heads=0), "cannot be loaded"),
    "nested without end": (text("config.json", "[" * 10**6), "cannot read"),
    "a configuration of 1 GB": (sparse("config.json", 10**9), "has 1,000 MB"),
    "a configuration of bytes": (text("config.json", bytes(range(256))), "cannot read"),
    "a list for a configuration": (text("config.json", "[1]"), "holds a JSON list"),
    "an unknown type": (config(model_type=f"x{ESCAPE}"), "cannot be loaded"),
    "names that write": (config(architectures=[f"X{ESCAPE}ForSequenceClassification"]), "does not predict a next"),
    "kernels on the hub": (config(_attn_implementation="someone/kernel"), "names kernels on the hub"),
    "kernels for a part": (config(attn_implementation={"": "a/b:c"}), "names kernels on the hub"),
    "own code": (config(model_type="evil", auto_map={"AutoConfig": f"e{ESCAPE}.C"}), "brings its own code"),
    "a pipe for a configuration": (pipe("config.json"), "no ordinary file"),
    "a device for a configuration": (link("config.json", "/dev/zero"), "no ordinary file"),
    "weights elsewhere": (config(transformers_weights="/etc/passwd"), "names weights outside its folder"),
    "a shard above": (shards({"a": "../../model.safetensors"}), "names weights outside its folder"),
    "a shard elsewhere": (shards({"a": "/etc/hostname"}), "names weights outside its folder"),
    "shards without names": (shards({"a": 3, "b": None}), "is not an index of weight files"),
    "many shards": (shards({str(i): f"{i}.safetensors" for i in range(10**5)}), "is incomplete"),
    "a pipe for weights": (pipe("model.safetensors"), "no ordinary file"),
    "a device for weights": (link("model.safetensors", "/dev/zero"), "no ordinary file"),
    "a loop of links": (link("model.safetensors", "model.safetensors"), "cannot read"),
    "a shard without end": (
        both(shards({"a": "x.safetensors"}), link("x.safetensors", "/dev/zero")),
        "no ordinary file",
    ),
    "a header without end": (header({}, length=10**12), "is cut off or damaged"),
    "a header behind the file": (header({}, length=10**4), "is cut off or damaged"),
    "a nested header": (
        text("model.safetensors", (10**5).to_bytes(8, "little") + b"[" * 10**5),
        "is cut off or damaged",
    ),
    "weights that overlap": (
        header({n: {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]} for n in "ab"}),
        "cannot be loaded|lacks|holds more than its weights",
    ),
    "weights behind the file": (
        header({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
        "is cut off",
    ),
    "names of weights that write": (
        header({f"model.{ESCAPE}": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}),
        "cannot be loaded|lacks|holds more than its weights",
    ),
    "a pipe for a tokenizer": (pipe("tokenizer.json"), "no ordinary file"),
    "a tokenizer without end": (link("tokenizer.json", "/dev/zero"), "no ordinary file"),
    "a tokenizer of 1 GB": (sparse("tokenizer.json", 10**9), "has 1,000 MB"),
    "a nested tokenizer": (text("tokenizer.json", "[" * 10**6), "cannot be loaded"),
    "a regex in a decoder": (
        tokenizer(decoder=_replace_step({"Regex": SLOW_REGEX}, "")),
        "regular expression with repetitions in its decoder",
    ),
    "texts that double": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": _DOUBLING}),
        r"makes texts up to 1.1e\+12 times as long",
    ),
    "a long text in front": (
        tokenizer(normalizer={"type": "Prepend", "prepend": "a" * 10**6}),
        r"makes texts up to 1e\+06 times as long",
    ),
    "a piece without end": (
        tokenizer(model={"type": "Unigram", "vocab": [["<unk>", 0.0], ["a" * 10**6, -1.0]], "unk_id": 0}),
        "holds a piece of 1,000,000 characters",
    ),
    "rules that are none": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 99).decode()}),
        "rules of normalisation that are damaged",
    ),
    "a regex that panics": (
        tokenizer(pre_tokenizer=_split(PANIC_REGEX), model=_word_level(hot=3)),
        "LibraryPanicError|cannot read",
    ),
    "a lost vocabulary": (
        both(tokenizer_config(tokenizer_class="BertTokenizer"), _without("tokenizer.json")),
        r"has no vocabulary: a BertTokenizer reads vocab\.txt or tokenizer\.json, and none of them is there",
    ),
    "lost merges": (
        both(
            both(tokenizer_config(tokenizer_class="GPT2Tokenizer"), _without("tokenizer.json")),
            text("vocab.json", json.dumps({"<unk>": 0, "h": 1, "o": 2, "t": 3, "hot": 4})),
        ),
        "cannot be loaded",
    ),
    "special tokens only": (
        tokenizer(
            model={"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}, "unk_token": "<unk>"},
            added_tokens=[],
        ),
        "there are special tokens only",
    ),
    "a pickled checkpoint": (
        both(text("pytorch_model.bin", b"cos\nsystem\n(S'touch executed'\ntR."), _without("model.safetensors")),
        "pickled weights only",
    ),
}
"""By what they are: how they are made, and what is said of them."""

LOADED: dict[str, Build] = {
    "programs": programs,
    "a quantisation of its own": config(quantization_config={"quant_method": f"os{ESCAPE}"}),
    "a tokenizer's own class": tokenizer_config(tokenizer_class=f"os{ESCAPE}"),
    "a token far behind": tokenizer(added_tokens=[{**_FAR, "special": True}]),
    "padding without end": tokenizer(
        padding={
            "strategy": {"Fixed": 10**12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<unk>",
        }
    ),
    "tokens that write": tokenizer(model=_word_level(**{f"hot{ESCAPE}": 3, "\x00<script>": 4, "\u0301" * 999: 5})),
    "a text without end": config(max_position_embeddings=10**12),
    "heads of another number": config(num_key_value_heads=10**9),
    "attention that is not installed": config(attn_implementation="flash_attention_2"),
    "layers that are no count": config(max_window_layers=4096),
}
"""Those that may be loaded or refused, and must do no harm."""


def build(base: Path, folder: Path, make: Build) -> Path:
    """A copy of a checkpoint with one alteration."""
    shutil.copytree(base, folder)
    make(folder)
    return folder


def write_gguf_heads() -> dict[str, bytes]:
    """Heads of .gguf files that count more than there is."""

    def number(value: int, n_bytes: int = 8) -> bytes:
        return value.to_bytes(n_bytes, "little")

    def name(value: str, n: int | None = None) -> bytes:
        return number(len(value) if n is None else n) + value.encode()

    start = b"GGUF" + number(3, 4)
    setting = name("general.architecture") + number(8, 4) + name("llama")
    return {
        "tensors without end": start + number(2**60) + number(1) + setting,
        "settings without end": start + number(0) + number(2**60) + setting,
        "a name without end": start + number(0) + number(1) + name("a", 2**60),
        "a text without end": start + number(0) + number(1) + name("a") + number(8, 4) + name("b", 2**60),
        "a list without end": start + number(0) + number(1) + name("a") + number(9, 4) + number(0, 4) + number(2**60),
        "lists in lists": start + number(0) + number(1) + name("a") + (number(9, 4) + number(1)) * 10**4,
        "dimensions without end": start + number(1) + number(0) + name("t") + number(2**31, 4),
        "an unknown type": start + number(0) + number(1) + name("a") + number(77, 4),
        "cut short": start + number(1)[:3],
        "noise": start + np.random.default_rng(0).bytes(4096),
    }
