"""What the tests of the command line share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from layertracer.cli import main
from layertracer.runs import save_run

from tests.support.checkpoints.command_line import write_checkpoint, write_pairs
from tests.support.records.sample_records import make_record


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as on a terminal, here and in processes started here: a shell lets those in the background ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with a tokenizer."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file of word pairs."""
    return write_pairs(tmp_path_factory.mktemp("tasks") / "pairs.json")


@pytest.fixture(scope="session")
def stored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    return save_run(make_record(n_prompts=4, n_layers=6), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def call(*arguments: str | Path) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
