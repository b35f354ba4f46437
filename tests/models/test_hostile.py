"""Checkpoints of strangers: nothing of them is executed, nothing hangs, fills the memory or writes on the terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layertracer._errors import ModelLoadError
from layertracer.models._gguf_header import check_header

from tests.hostile_checkpoints import LOADED, REFUSED, build, write_gguf_heads
from tests.models.tiny_checkpoints import save_checkpoint, tiny_llama

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and limits of memory as Linux has them")

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
import layertracer.tracing, layertracer.models._adapters

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
        assert not message or results[name]["kind"] != "loaded", name
    assert results["programs"]["kind"] == "loaded"


@pytest.mark.parametrize("kind", write_gguf_heads())
def test_heads_of_gguf_files_that_count_too_much(tmp_path: Path, kind: str) -> None:
    """A .gguf file that counts more than it holds is refused before its reader believes it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(write_gguf_heads()[kind])
    with pytest.raises(ModelLoadError, match="is damaged"):
        check_header(path, "m.gguf")
