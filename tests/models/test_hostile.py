"""Checkpoints of strangers: nothing of them is executed, nothing hangs, fills the memory or writes on the terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from layertracer._errors import ModelLoadError, OutOfMemoryError, TaskFileError
from layertracer.models import load_parts
from layertracer.models._gguf.header import check_header
from layertracer.models._plausibility import adapter_patterns as _adapter_patterns
from layertracer.models._plausibility import settings as _plausibility
from layertracer.models._plausibility import settings_trial as _settings_trial
from layertracer.models._plausibility.settings import Held, refuse_countless_parts, refuse_unfillable
from layertracer.models._plausibility.settings_trial import refuse_filling_settings
from layertracer.tasks import load_task

from tests.support.checkpoints.hostile import ESCAPE, LOADED, REFUSED, build, edit, write_gguf_heads
from tests.support.checkpoints.tiny import save_checkpoint, tiny_llama, write_gguf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and limits of memory as Linux has them")

BOMB = "(([a-z_.0-9]+)+)+!"
"""Tries all ways to cut a name into pieces."""

LIMIT_S = 120
EACH_S = 20.0
GROWTH_BYTES = 700e6

WATCHER = """
import json, os, resource, sys, time

folders = json.loads(sys.stdin.readline())
seen = []
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")

def watch(event, arguments):
    if event in FORBIDDEN:
        seen.append(event)
    elif event == "exec" and any(folder in arguments[0].co_filename for folder in folders):
        seen.append(f"exec {arguments[0].co_filename}")

import torch, transformers, layertracer as lt
from layertracer._types import Sample
from layertracer.tasks import encode_samples
import layertracer.tracing, layertracer.models._loading.adapters

def rss():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

def use(folder):
    model = lt.load_model(folder)
    encode_samples([Sample(prompt="a" * 40 + "! hot", answer="cold")], model.tokenizer)

before = rss()
soft = resource.getrlimit(resource.RLIMIT_AS)[1]
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 2**32, soft))
sys.addaudithook(watch)
for folder in folders:
    os.chdir(folder)
    sys.path.insert(0, "")
    began = time.monotonic()
    try:
        use(folder)
        said = ["loaded", ""]
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        said = ["refused" if "LayerTracerError" in kinds else kinds[0], str(error)]
    sys.path.pop(0)
    line = {"folder": folder, "kind": said[0], "message": said[1], "seconds": time.monotonic() - began,
            "growth": rss() - before, "seen": list(seen), "executed": os.path.exists("executed")}
    print("RESULT" + json.dumps(line), flush=True)
    seen.clear()
os._exit(0)
"""


def load_all(folders: list[Path], *, limit_s: float = LIMIT_S) -> dict[str, dict[str, Any]]:
    """What comes of loading each folder in one process that is watched; by the folder's name."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "RUST_BACKTRACE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHER],
        input=json.dumps([str(folder) for folder in folders]) + "\n",
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        env=environment,
    )
    lines = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert len(lines) == len(folders), f"ended at {folders[len(lines)]}: {done.stderr[-2000:]}"
    return {Path(line["folder"]).name: line for line in lines}


def check_harmless(results: Mapping[str, Mapping[str, Any]]) -> None:
    """None executed anything, took long, filled the memory, or said what a terminal would act upon."""
    for name, one in results.items():
        assert not one["seen"], (name, one)
        assert not one["executed"], name
        assert one["seconds"] < EACH_S, (name, one)
        assert one["growth"] < GROWTH_BYTES, (name, one)
        assert one["message"].replace("\n", " ").isprintable(), (name, one["message"])
        assert len(one["message"]) < 3_000, name
        assert one["kind"] in {"loaded", "refused"}, (name, one)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is as it should be."""
    return save_checkpoint(tmp_path_factory.mktemp("base") / "tiny", tiny_llama())


def test_hostile_checkpoints_do_no_harm(base: Path, tmp_path: Path) -> None:
    """Every kind of hostile checkpoint is refused with its reason, or read, without execution, hang or memory."""
    makers = {name: make for name, (make, _) in REFUSED.items()} | LOADED
    results = load_all([build(base, tmp_path / name, make) for name, make in makers.items()])
    check_harmless(results)
    for name, (_, message) in REFUSED.items():
        assert re.search(message, results[name]["message"]), (name, results[name])
        assert results[name]["kind"] == "refused", name
    for name in ("programs", "attention that is not installed", "layers that are no count"):
        assert results[name]["kind"] == "loaded", results[name]


@pytest.mark.parametrize("kind", ["names that write", "an unknown type", "own code", "layers as a text"])
def test_the_command_line_says_one_harmless_message(base: Path, tmp_path: Path, kind: str) -> None:
    """A hostile checkpoint ends a command with code 1 and one message, in which nothing acts on a terminal."""
    from layertracer.cli import main

    folder = build(base, tmp_path / "evil", REFUSED[kind][0])
    for command in (("inspect",), ("trace", "--json"), ("inspect", "--debug")):
        result = CliRunner().invoke(main, [command[0], str(folder), *command[1:]])
        said = result.stdout + result.stderr
        assert result.exit_code == 1
        assert said.count("\nError: ") == 1 or "--debug" in command
        assert said.replace("\n", "").isprintable()


def test_files_that_never_end_are_no_models(tmp_path: Path) -> None:
    """A pipe or a device in place of a model's file, or of prompts, is refused at once."""
    os.mkfifo(tmp_path / "m.gguf")
    for path in (tmp_path / "m.gguf", Path("/dev/zero")):
        with pytest.raises(ModelLoadError, match="no ordinary file"):
            load_parts(path)
        with pytest.raises(TaskFileError, match="There is no task file"):
            load_task(str(path))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning")
def test_adapters_that_ask_for_more_than_they_hold(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks far beyond the weights, starts and patterns without an end, and packages to import are refused."""
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(_adapter_patterns, "_MATCHING_S", 0.3)
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    peft.get_peft_model(load_parts(base).module, settings).save_pretrained(tmp_path)
    edit(tmp_path / "adapter_config.json", lambda old: old | {"base_model_name_or_path": str(base)})
    assert load_parts(tmp_path).source == "folder"
    for number, (change, message) in enumerate(
        [
            ({"r": 10**9}, "asks for r = 1,000,000,000"),
            ({"rank_pattern": {"q_proj": 10**7}}, "asks for rank_pattern = 10,000,000"),
            ({"layer_replication": [[0, 10**9]]}, "asks for layer_replication"),
            ({"init_lora_weights": "pissa_niter_1000000000"}, "asks for 1,000,000,000 iterations"),
            ({"loftq_config": {"loftq_iter": 10**9}}, "asks for 1,000,000,000 iterations"),
            ({"peft_type": "XLORA", "adapters": {"0": "/etc"}}, "names further models or adapters"),
            ({"target_modules": BOMB}, "did not come to an end within 0 s on the names"),
            ({"exclude_modules": BOMB}, "did not come to an end"),
            ({"layers_to_transform": [0], "layers_pattern": [BOMB]}, "did not come to an end"),
            ({"rank_pattern": {BOMB: 2}}, "did not come to an end"),
            ({"megatron_config": {}, "megatron_core": f"evil{ESCAPE}"}, "names a package that peft would import"),
        ]
    ):
        shutil.copytree(tmp_path, other := tmp_path.parent / f"{tmp_path.name}-{number}")
        edit(other / "adapter_config.json", lambda old, change=change: old | change)
        with pytest.raises(ModelLoadError, match=message):
            load_parts(other)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_files_that_an_adapter_names_are_not_opened(base: Path, tmp_path: Path) -> None:
    """A file that an adapter's training began with is neither opened nor unpickled: its own weights are loaded."""
    peft = pytest.importorskip("peft")
    settings = peft.MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, num_tasks=2)
    peft.get_peft_model(load_parts(base).module, settings).save_pretrained(tmp_path / "a")
    (tmp_path / "elsewhere.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    named = {
        "base_model_name_or_path": str(base),
        "prompt_tuning_init": "ONLY_SOURCE_SHARED",
        "prompt_tuning_init_state_dict_path": str(tmp_path / "elsewhere.bin"),
        "tokenizer_name_or_path": str(tmp_path),
    }
    edit(tmp_path / "a" / "adapter_config.json", lambda old: old | named)
    loaded = load_parts(tmp_path / "a").module
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert torch.equal(loaded.prompt_encoder["default"].embedding.weight, stored["prompt_embeddings"])


@pytest.mark.parametrize(
    ("settings", "is_tried"),
    [
        ({"num_labels": 10**9}, True),
        ({"attention_types": [[["global"], 10**9]]}, True),
        ({"extra_ids": 10**9}, True),
        ({"model_max_length": 10**30, "rope_theta": 5e6, "vocab_size": 10**7, "pad_token_id": 10**7}, False),
        ({"max_position_embeddings": 1_048_576, "hidden_size": 16_384}, False),
    ],
)
def test_settings_that_fill_the_memory_are_tried_elsewhere(
    settings: dict[str, Any], is_tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What large numbers ask for is made in another process first, and refused where that takes its memory."""
    monkeypatch.setattr(_settings_trial, "_TRIAL_BYTES", 2**27)
    if is_tried:
        with pytest.raises(ModelLoadError, match=r"takes more than 0 GB .*= 1,000,000,000\)"):
            refuse_filling_settings(settings, lambda: list(range(10**9)), "x")
        refuse_filling_settings(settings, lambda: list(range(10)), "x")
    else:
        refuse_filling_settings(settings, lambda: pytest.fail("it was made"), "x")


def test_settings_of_which_nothing_is_made_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not made in time is refused; an error of another kind is left to loading, which says more of it."""
    monkeypatch.setattr(_settings_trial, "_TRIAL_S", 0.3)
    with pytest.raises(ModelLoadError, match="was not made within 0 s"):
        refuse_filling_settings({"n": 10**9}, lambda: [None for _ in iter(int, 1)], "x")
    refuse_filling_settings({"n": 10**9}, lambda: 1 / 0, "x")


def test_attention_out_of_a_package_that_is_missing(base: Path, tmp_path: Path) -> None:
    """A checkpoint that asks for FlashAttention, which is not installed, is computed otherwise, with a note."""
    folder = build(base, tmp_path / "x", LOADED["attention that is not installed"])
    parts = load_parts(folder)
    assert any("asks for attention by flash_attention_2" in note for note in parts.notes)
    ids = torch.arange(8)[None]
    assert torch.equal(parts.module(ids).logits, load_parts(base).module(ids).logits)


@pytest.mark.parametrize("name", ["max_window_layers", "num_layers_to_skip", "window_layers"])
def test_settings_that_only_sound_like_layers(name: str) -> None:
    """A setting that ends like a number of layers, and counts something else, is no reason to refuse."""
    refuse_countless_parts({name: 4096, "num_hidden_layers": 2}, Held(n_bytes=10**7, n_tensors=25), "real")
    for counting in ("num_layers", "n_layer", "encoder_layers", "num_decoder_layers", "llama.block_count"):
        with pytest.raises(ModelLoadError, match="asks for"):
            refuse_countless_parts({counting: 4096}, Held(n_bytes=10**7, n_tensors=25), "not")


def test_layers_that_share_their_weights_are_no_contradiction() -> None:
    """One stored layer for twelve that run, packed weights, fused experts and shared towers are no reason to refuse."""
    held = Held(n_bytes=10**7, n_tensors=25)
    refuse_countless_parts({"num_hidden_layers": 12, "n_layer": 1000, "num_experts": 16_384}, held, "real")
    refuse_countless_parts({"num_hidden_layers": 3_000}, Held(n_bytes=10**9, n_tensors=30_000), "deep")
    refuse_unfillable(
        lambda: torch.nn.Linear(8_000, 10_000, bias=False), held, "in one bit", memory_bytes_per_parameter=4
    )
    with pytest.raises(ModelLoadError, match=r"asks for 1e.09 parameters"):
        refuse_unfillable(lambda: torch.nn.Linear(10**5, 10**4), held, "more")
    with pytest.raises(OutOfMemoryError, match=r"does not fit on cpu: its weights take 4,000,000\.0 GB"):
        refuse_unfillable(
            lambda: torch.nn.Linear(10**8, 10**7), Held(n_bytes=10**15), "zeros", memory_bytes_per_parameter=4
        )


def test_building_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose skeleton is not built in time is refused."""

    def build_for_ever() -> torch.nn.Module:
        while True:
            torch.nn.Linear(1, 1)

    monkeypatch.setattr(_plausibility, "_BUILDING_S", 0.2)
    with pytest.raises(ModelLoadError, match="was not built within 0 s, without any weights"):
        refuse_unfillable(build_for_ever, Held(n_bytes=1), "endless")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("block_count", 10**6, "asks for block_count = 1,000,000, and its files hold 21 tensors"),
        ("embedding_length", 2**30, "asks for .* parameters"),
        ("feed_forward_length", 2**31, "asks for .* parameters"),
    ],
)
def test_gguf_files_whose_settings_ask_for_more_than_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int, message: str
) -> None:
    """A .gguf file whose settings ask for far more than its tensors is refused before that is built."""
    monkeypatch.setenv("LAYERTRACER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.gguf"
    write_gguf(path, tiny_llama())
    content = bytearray(path.read_bytes())
    at = content.index(f"llama.{name}".encode()) + len(f"llama.{name}") + 4
    content[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=message):
        load_parts(path)


@pytest.mark.parametrize("kind", write_gguf_heads())
def test_heads_of_gguf_files_that_count_too_much(tmp_path: Path, kind: str) -> None:
    """A .gguf file that counts more than it holds is refused before its reader believes it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(write_gguf_heads()[kind])
    with pytest.raises(ModelLoadError, match="is cut off or damaged"):
        check_header(path, "m.gguf")
