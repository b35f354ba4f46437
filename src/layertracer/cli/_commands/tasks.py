"""`layertracer tasks`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from layertracer.cli._console import quiet_stdout, say, say_aside, say_json, say_table
from layertracer.cli._exit_codes import debug_option
from layertracer.cli._options import limit_option, option, task_options
from layertracer.cli._progress import showing_progress
from layertracer.cli._trace_options import load_task_from, refuse_chat_options

if TYPE_CHECKING:
    from layertracer.tasks import EncodedTask, Task, Tokenizer
else:  # under test, annotations are looked up when a function is called
    EncodedTask = Task = Tokenizer = object


@click.command("tasks")
@option("--show", metavar="NAME|FILE", default=None, help="Show prompts of this task instead of the list.")
@option("--model", metavar="MODEL", default=None, help="With --show: token by token, as this model would see them.")
@limit_option(3, "With --show: largest number of prompts, or all.")
@task_options
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table or the prompts.")
@debug_option
def tasks_command(*, show: str | None, model: str | None, limit: int | None, as_json: bool, **settings: Any) -> None:
    """List the built-in tasks, or show a task's prompts."""
    if show is None:
        if model is not None:
            raise click.UsageError(
                "--model says who reads the prompts of --show NAME. Add --show, e.g. --show antonym."
            )
        _list_tasks(as_json=as_json)
        return
    refuse_chat_options(settings)
    if settings["chat"] and model is None:
        raise click.UsageError("--chat needs a tokenizer's chat template. Add --model, e.g. --model smollm2.")
    task = load_task_from(show, settings, limit=limit)
    for note in task.notes:
        say_aside(f"Task: {note}")
    if model is None:
        _show_texts(task, as_json=as_json)
    else:
        chat = {name: settings[name] for name in ("chat", "system", "template_arguments")}
        _show_tokens(task, model, chat=chat, as_json=as_json)


def _list_tasks(*, as_json: bool) -> None:
    from layertracer.tasks import list_tasks

    infos = list_tasks()
    if as_json:
        say_json([dataclasses.asdict(info) for info in infos])
        return
    say_table(
        ("name", "pairs", "example", "description"),
        [(info.name, info.n_pairs or "generated", " -> ".join(info.example), info.description) for info in infos],
    )
    say()
    say("Other tasks: a .json, .jsonl, .csv, .tsv or .parquet file, a .txt of prompts, hf:name:split, or text:FILE.")


def _show_texts(task: Task, *, as_json: bool) -> None:
    if as_json:
        samples = [
            {"prompt": sample.prompt, "answer": sample.answer}
            | ({"answers": list(sample.answers)} if sample.answers else {})
            for sample in task
        ]
        say_json({"task": dict(task.spec), "samples": samples})
        return
    for index, sample in enumerate(task):
        say(f"Prompt {index + 1} of {len(task)}, answer {sample.answer!r}:")
        say(sample.prompt or "")
        say()


def _show_tokens(task: Task, model: str, *, chat: Mapping[str, Any], as_json: bool) -> None:
    from layertracer.tasks import encode_samples

    with quiet_stdout(), showing_progress() as display:
        display.begin(f"Loading the tokenizer of {model}")
        tokenizer = _load_tokenizer(model)
        encoded = encode_samples(task, tokenizer, **chat)
    if as_json:
        say_json(
            {
                "task": dict(encoded.spec),
                "model": model,
                **chat,
                "start_token": encoded.start_token,
                "samples": [_token_columns(encoded, index, tokenizer) for index in range(len(encoded.samples))],
            }
        )
        return
    for index, sample in enumerate(encoded.samples):
        columns = _token_columns(encoded, index, tokenizer)
        n_prompt, n_answer = len(sample.prompt_ids), len(sample.answer_ids)
        say(f"Prompt {index + 1} of {len(encoded.samples)}: {n_prompt} tokens, answer: {n_answer}")
        say("|" + "|".join(columns["prompt_tokens"]) + "|")
        say("answer |" + "|".join(columns["answer_tokens"]) + "|")
        say()
    say(f"Start token: {encoded.start_token or 'none'}")
    for warning in encoded.warnings:
        say_aside(f"Warning: {warning}")


def _token_columns(encoded: EncodedTask, index: int, tokenizer: Tokenizer | None) -> dict[str, Any]:
    from layertracer.tasks import show_tokens

    sample = encoded.samples[index]
    texts = show_tokens(sample, tokenizer)
    n_prompt = len(sample.prompt_ids)
    return {
        "prompt_ids": list(sample.prompt_ids),
        "prompt_tokens": texts[:n_prompt],
        "answer_ids": list(sample.answer_ids),
        "answer_tokens": texts[n_prompt:],
        "n_lead": sample.n_lead,
    }


def _load_tokenizer(model: str) -> Tokenizer:
    from layertracer import UsageError
    from layertracer.models import load_parts

    tokenizer: Tokenizer | None = load_parts(model).tokenizer
    if tokenizer is None:
        raise UsageError(
            f"The model {model!r} has no tokenizer, so it sees no text. Leave out --model to see the prompts."
        )
    return tokenizer
