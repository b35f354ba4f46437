"""The command line as a whole."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from layertracer import Mask, Noise, Rise
from layertracer._types import DEFAULT_SITE, SITES
from layertracer.cli import _choices, main
from layertracer.comparisons._settings import FAMILY_RULES
from layertracer.measures import ONSET_NAMES

from tests.cli.conftest import call


def _commands() -> list[tuple[str, click.Command]]:
    return [("", main), *main.commands.items()]


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name or "layertracer" for name, _ in _commands()])
def test_every_option_is_explained(name: str, command: click.Command) -> None:
    """Every command and every option has a help text that ends as a sentence."""
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            text = (parameter.help or "").partition("  [default:")[0]
            assert text.endswith("."), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", list(main.commands))
def test_help_names_every_option_with_its_default(name: str) -> None:
    """The help of a command shows each option; those that take a value show their default or say what it is."""
    text = " ".join(call(name, "--help").stdout.split())
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in text
            has_one = not (parameter.is_flag or parameter.multiple)  # what may be repeated may be left out
            if has_one and parameter.default not in (None, False):
                assert f"default: {parameter.default}" in text


def test_choices_are_those_of_the_library() -> None:
    """The names that options offer, and their defaults, are those that the library knows."""
    assert tuple(SITES) == _choices.SITES
    assert _choices.ONSETS == ONSET_NAMES
    assert _choices.FAMILIES == FAMILY_RULES
    for scheme in _choices.SCHEMES:
        assert Mask(scheme=scheme).scheme == scheme
    for fill in _choices.FILLS:
        assert Mask(fill=fill).fill == fill
    for positions in _choices.POSITIONS:
        assert Mask(positions=positions).positions == positions
    defaults = {option.name: option.default for option in main.commands["trace"].params}
    mask = Mask()
    assert (defaults["mask_fraction"], defaults["draws"], defaults["scheme"]) == (
        mask.fraction,
        mask.draws,
        mask.scheme,
    )
    assert (defaults["fill"], defaults["noise_scale"]) == (mask.fill, Noise().scale)
    # A site that was asked for can be told from the usual one.
    assert not main.commands["trace"].make_context("trace", []).params["sites"]
    assert f"default: {mask.site};" in " ".join(call("trace", "--help").stdout.split())
    assert Noise().site == mask.site == DEFAULT_SITE
    assert defaults["onset"] == Rise.kind
    assert "0.05" in main.commands["trace"].params[[o.name for o in main.commands["trace"].params].index("delta")].help
    assert Rise().delta == 0.05


def test_module_and_version() -> None:
    """`python -m layertracer --version` prints the version."""
    done = subprocess.run(
        [sys.executable, "-m", "layertracer", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("layertracer ")
    assert done.stdout.count("\n") == 1


def test_unknown_command_is_usage() -> None:
    """A command that does not exist ends with 2 and names the help."""
    result = call("trase")
    assert result.exit_code == 2
    assert "No such command 'trase'" in result.stderr


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_leave_the_cores_to_others(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    """Unless the user says otherwise, threads wait passively; torch has not been loaded by then."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert call("models").exit_code == 0
    assert os.environ["OMP_WAIT_POLICY"] == expected
