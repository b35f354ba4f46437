"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from layertracer.cli._choices import DEVICE_MAPS, DTYPES

if TYPE_CHECKING:
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called
    TracedModel = object

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


def parse_limit(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A number of at least 1; None for "all", and where nothing is said."""
    if value is None or value == "all":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of at least 1 nor 'all'.", context, parameter)
    return int(value)


def parse_template_arguments(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """Names with values: those that are JSON, or Python's True, False and None, as such, others as text."""
    arguments: dict[str, Any] = {}
    for value in values:
        name, equals, given = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{value!r} is no NAME=VALUE, such as enable_thinking=false.", context, parameter)
        arguments[name] = _parse_value(given)
    return arguments


def _parse_value(text: str) -> Any:
    constants = {"True": True, "False": False, "None": None}
    if text in constants:
        return constants[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def add_options(*options: Callable[[AnyCommand], AnyCommand]) -> Callable[[AnyCommand], AnyCommand]:
    """One decorator out of several options, which appear in this order in the help."""

    def decorate(command: AnyCommand) -> AnyCommand:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def option(*names: str, **settings: Any) -> Callable[[AnyCommand], AnyCommand]:
    """An option whose default stands in its help."""
    return click.option(*names, show_default=True, **settings)


def limit_option(default: int | None, help_text: str) -> Callable[[Any], Any]:
    """`--limit`, which takes a number or "all"; without a default of its own, it depends on the task."""
    text = None if default is None else str(default)
    return option("--limit", metavar="N|all", default=text, callback=parse_limit, help=help_text)


model_options: Callable[[Any], Any] = add_options(
    option(
        "--device", metavar="NAME", default="auto", help="Device: auto (a GPU where there is one), cpu, cuda, cuda:1."
    ),
    option(
        "--device-map",
        type=click.Choice(DEVICE_MAPS),
        default=None,
        help="Spread the model over all GPUs, main memory and disk, instead of --device.  [default: one device]",
    ),
    option(
        "--offload-folder",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        default=None,
        help="Folder for weights that --device-map sends to disk and that cannot be read from the checkpoint.",
    ),
    option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        help="Type of the weights; auto is float32 on a CPU and the checkpoint's own elsewhere.",
    ),
    option(
        "--revision", metavar="NAME", default=None, help="Branch, tag or commit on the hub.  [default: its main one]"
    ),
    option(
        "--trust-remote-code",
        is_flag=True,
        help="Let code that the checkpoint brings run on this machine. Read it first.",
    ),
)

_OF_MODEL = ("device", "device_map", "offload_folder", "dtype", "revision", "trust_remote_code")


def load_asked_model(model: str, settings: Mapping[str, Any]) -> TracedModel:
    """The model that `model_options` ask for."""
    from layertracer.tracing import load_model

    return load_model(model, **{name: settings[name] for name in _OF_MODEL})


prompt_options: Callable[[Any], Any] = add_options(
    option("--shots", type=click.IntRange(min=0), default=5, help="Demonstrations before each question."),
    option(
        "--demonstration-sets",
        type=click.IntRange(min=1),
        default=1,
        help="Sets of demonstrations that prompts take turns with; intervals then resample sets (8 or more).",
    ),
    option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        help="Seed of the choice of demonstrations, the order of prompts, the perturbation and the bootstrap.",
    ),
    option(
        "--template",
        metavar="TEXT",
        default=None,
        help=r"How a pair is written; \n is a line break.  [default: {input} -> {output}]",
    ),
    option("--prompt-field", metavar="NAME", default=None, help="Field of the input in a file, where not recognised."),
    option("--answer-field", metavar="NAME", default=None, help="Field of the answer in a file, where not recognised."),
    option(
        "--answer-prefix",
        metavar="TEXT",
        default=None,
        help="Text put before the answers of finished prompts that do not begin with it, such as ' '.",
    ),
    option(
        "--header/--no-header",
        default=None,
        help="Whether the first line of a table names its columns.  [default: recognised, or asked about]",
    ),
    option(
        "--keys",
        "n_keys",
        type=click.IntRange(min=2),
        default=None,
        help="recall: keys with values in a prompt.  [default: 8]",
    ),
    option(
        "--min-distance",
        type=click.IntRange(min=0),
        default=None,
        help="recall: fewest pairs behind the one that is asked for.  [default: 0]",
    ),
)
"""What prompts a task makes."""

chat_options: Callable[[Any], Any] = add_options(
    option("--chat", is_flag=True, help="Put prompts into the tokenizer's chat template."),
    option("--system", metavar="TEXT", default=None, help="Text of a system's turn before each prompt; --chat only."),
    option(
        "--template-argument",
        "template_arguments",
        metavar="NAME=VALUE",
        multiple=True,
        callback=parse_template_arguments,
        help="What else the chat template is given, e.g. enable_thinking=false; may be given several times.",
    ),
)
"""How prompts are put into a chat template."""

task_options: Callable[[Any], Any] = add_options(prompt_options, chat_options)
