"""`layertracer tasks` and `layertracer models`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from layertracer import list_tasks

from tests.cli.conftest import call
from tests.support.checkpoints.command_line import PAIRS, write_word_checkpoint


def test_tasks_lists_the_built_in_ones() -> None:
    """The list has a line for every built-in task, with its number of pairs."""
    result = call("tasks")
    assert result.exit_code == 0
    for info in list_tasks():
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(f"{info.name} "))
        assert str(info.n_pairs or "generated") in line


def test_tasks_as_json() -> None:
    """--json lists the tasks as data."""
    names = [task["name"] for task in json.loads(call("tasks", "--json").stdout)]
    assert names == [info.name for info in list_tasks()]


def test_show_prints_prompts_and_answers(pairs: Path) -> None:
    """--show prints as many prompts as asked for, with their demonstrations and answers."""
    result = call("tasks", "--show", pairs, "--shots", "2", "--limit", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("Prompt ") == 2
    assert result.stdout.count(" ->") == 6
    assert "Prompt 1 of 2, answer ' " in result.stdout


def test_show_says_what_was_read(tmp_path: Path) -> None:
    """Fields, rows, lines left out and the limit stand on standard error; --json has them in the task."""
    path = tmp_path / "capitals.csv"
    path.write_text("country,capital\nFrance,Paris\nPeru,\nJapan,Tokyo\nKenya,Nairobi\nChad,Ndjamena\n", "utf-8")
    arguments = ("tasks", "--show", path, "--shots", "0")
    fields = "prompt from column 'country', answer from column 'capital'"
    said = [
        f"read 4 of 5 rows of capitals.csv: {fields}; 1 row left out: empty answer (line 3)",
        "3 of 4 prompts are asked: limit=3 leaves the others out",
    ]
    assert call(*arguments).stderr.splitlines() == [f"Task: {note}" for note in said]
    assert json.loads(call(*arguments, "--json").stdout)["task"]["notes"] == said


def test_unclear_header_is_asked_about(tmp_path: Path) -> None:
    """Where the first line may be either, the command ends with 1 and names the options, which are obeyed."""
    path = tmp_path / "words.csv"
    path.write_text("word,Wort\nhouse,Haus\n", "utf-8")
    arguments = ("tasks", "--show", path, "--shots", "0")
    refused = call(*arguments)
    assert refused.exit_code == 1
    assert "--header, --no-header" in refused.stderr
    assert "Prompt 2 of 2" in call(*arguments, "--no-header").stdout
    assert "Prompt 1 of 1" in call(*arguments, "--header").stdout


def test_show_token_by_token(tiny: Path, pairs: Path) -> None:
    """With --model each prompt is shown as the tokens that the model sees, and they spell the prompt."""
    arguments = ("tasks", "--show", pairs, "--shots", "1", "--limit", "1", "--model", tiny)
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    (tokens,) = (line for line in result.stdout.splitlines() if line.startswith("|"))
    assert "| ->|" in tokens
    (sample,) = json.loads(call(*arguments, "--json").stdout)["samples"]
    assert tokens == "|" + "|".join(sample["prompt_tokens"]) + "|"
    assert len(sample["prompt_ids"]) == len(sample["prompt_tokens"])
    prompt = json.loads(call(*arguments[:-2], "--json").stdout)["samples"][0]["prompt"]
    assert "".join(sample["prompt_tokens"]).replace("\\n", "\n") == prompt


def test_show_what_a_model_of_few_words_sees(tmp_path: Path, pairs: Path) -> None:
    """With --model, pairs of words that the model does not know are not shown, and a warning says how many."""
    words = [word for pair in PAIRS[:5] for word in pair]
    checkpoint = write_word_checkpoint(tmp_path / "words", words)
    arguments = ("tasks", "--show", pairs, "--shots", "2", "--limit", "all", "--model", checkpoint)
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "Prompt 3 of 3" in result.stdout
    assert "<unk>" not in result.stdout
    assert "Warning: 7 of 12 pairs have a word outside the model's vocabulary" in result.stderr
    document = json.loads(call(*arguments, "--json").stdout)
    assert document["task"]["n_left_out"] == {"has a word outside the model's vocabulary": 7}
    assert len(document["samples"]) == document["task"]["n_samples"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--model", "smollm2"), "Add --show"), (("--show", "antonym", "--chat"), "Add --model")],
)
def test_options_that_need_another_are_usage(arguments: tuple[str, ...], message: str) -> None:
    """--model without --show, and --chat without --model, end with 2 and say what to add."""
    result = call("tasks", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_unknown_task_has_near_matches() -> None:
    """A task that does not exist ends with 1 and near matches."""
    result = call("tasks", "--show", "synonim")
    assert result.exit_code == 1
    assert "Did you mean 'synonym'" in result.stderr


def test_text_of_a_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    """Control characters of a task file are printed as escapes."""
    path = tmp_path / "hostile.jsonl"
    path.write_text(json.dumps({"prompt": "a\x1b[2Jb", "answer": " c\x07"}) + "\n")
    result = call("tasks", "--show", path)
    assert r"a\x1b[2Jb" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


def test_models_lists_the_embedded_ones() -> None:
    """The list names the default model and whether it is installed."""
    result = call("models")
    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("smollm2"))
    assert "Apache-2.0" in line
    names = [model["name"] for model in json.loads(call("models", "--json").stdout)]
    assert names == ["smollm2", "mini/attention", "mini/gated-deltanet", "mini/hybrid", "mini/mamba2"]


def test_chat_options_without_chat_are_usage() -> None:
    """--system and --template-argument without --chat end with 2 and say what to add."""
    for option in (("--system", "Be brief."), ("--template-argument", "enable_thinking=false")):
        for command in (("tasks", "--show", "antonym"), ("trace", "smollm2"), ("plan", "smollm2")):
            result = call(*command, *option)
            assert result.exit_code == 2
            assert f"{option[0]} has no meaning without --chat" in result.stderr
    result = call("tasks", "--show", "antonym", "--chat", "--template-argument", "enable_thinking")
    assert result.exit_code == 2
    assert "'enable_thinking' is no NAME=VALUE" in result.stderr


def test_chat_options_reach_the_template(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    """A system prompt and arguments, numbers and Python's constants among them, stand where the template puts them."""
    folder = shutil.copytree(tiny, tmp_path / "chatty")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{{ 'slow' if think is false else 'fast' }} "
        "{{ n + 1 }} {{ word }}{% if add_generation_prompt %}:{% endif %}"
    )
    result = call("tasks", "--show", pairs, "--limit", "1", "--shots", "0", "--model", folder, "--chat", "--json",
                  "--system", "Be brief.", "--template-argument", "think=False", "--template-argument", "n=3",
                  "--template-argument", "word=cold")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    text = "".join(document["samples"][0]["prompt_tokens"])
    assert text.startswith("system:Be brief.;user:")
    assert text.endswith(";slow 4 cold:")
    assert document["template_arguments"] == {"think": False, "n": 3, "word": "cold"}
