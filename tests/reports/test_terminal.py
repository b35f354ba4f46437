"""The summary on a terminal, in a pipe, and where only ASCII can be shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rich.cells import cell_len
from rich.text import Text

from layertracer.reports import render_text, summary_sentence
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record


@pytest.fixture(autouse=True)
def _no_color_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests decides nothing."""
    monkeypatch.delenv("NO_COLOR", raising=False)


def _control_characters(text: str) -> set[str]:
    return {char for char in text if not char.isprintable()}


def test_it_says_what_a_trace_found() -> None:
    """Model, anatomy, self-check, both strips, both answers, sensitivity and the sentence are there."""
    record = make_record(10, 12)
    text = render_text(record, width=100, color=False)
    for part in (
        "planted-135m on antonym",
        "12 layers (9 gated_deltanet + 3 attention; MLP 10 dense + 2 experts)",
        "Self-check passed (4 of 4",
        "WARNING: 3 answers have several tokens",
        "Gain in target probability",
        "JS divergence at the mixer output",
        f"▲ task particle {record.task_particle.layer}",
        f"▲ vulnerable layer {record.vulnerable_layer.layer}",
        "stable in",
        "Solved 80 % · 8 of 10 prompts",
        "Sensitivity Layer",
    ):
        assert part in text, part
    assert summary_sentence(record) in text.replace("\n", " ")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("n_layers", [1, 30, 100])
def test_no_line_is_wider_than_the_terminal(width: int, n_layers: int) -> None:
    """Strips wrap and text wraps, with colour and without."""
    record = make_record(3, n_layers, hostile=True)
    for color in (False, True):
        for line in render_text(record, width=width, color=color).splitlines():
            assert cell_len(Text.from_ansi(line).plain) <= width, line


def test_every_layer_has_a_cell_at_any_width() -> None:
    """However a strip wraps, it has one cell per layer."""
    record = make_record(4, 30)
    blocks = set("·▁▂▃▄▅▆▇█")
    for width in (40, 100):
        lines = render_text(record, width=width, color=False).splitlines()
        start = next(index for index, line in enumerate(lines) if line.startswith("JS divergence"))
        stop = next(index for index, line in enumerate(lines) if line.startswith("Task particle"))
        cells = [word for line in lines[start + 1 : stop] for word in line.split() if set(word) <= blocks]
        cells = [cell for cell in cells if cell != "▁▂▃▄▅▆▇█"]  # the legend
        assert len(cells) == 30


def test_a_pipe_gets_no_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without colour, or with NO_COLOR set, there is no escape sequence; line feeds alone remain."""
    record = make_record(3, 8, hostile=True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert _control_characters(render_text(record, color=False)) == {"\n"}
    monkeypatch.setenv("NO_COLOR", "1")
    assert _control_characters(render_text(record, color=True)) == {"\n"}


def test_hostile_texts_send_no_escape_sequence_of_their_own() -> None:
    """With colour on, the only control characters are those of colours."""
    record = make_record(3, 8, hostile=True)
    model = dataclasses.replace(record.model, name="\x1b[2J\x1b]0;title\x07[bold red]name")
    text = render_text(dataclasses.replace(record, model=model), color=True)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "[bold red]name" in text


def test_colours_say_up_and_down() -> None:
    """Gains are drawn in green, drops in red; JS has a colour of its own."""
    record = make_record(1, 4)
    falling = dataclasses.replace(record, target_log_prob=np.log([[0.1, 0.6, 0.1, 0.1]]))
    text = render_text(falling, color=True)
    assert "48;2;0;158;115m" in text  # the full green
    assert "48;2;213;94;0m" in text  # the full red


def test_plain_strips_tell_up_from_down() -> None:
    """Without colour a rise is a block and a drop is a triangle; in ASCII a drop is a letter."""
    record = make_record(1, 4)
    falling = dataclasses.replace(record, target_log_prob=np.log([[0.1, 0.6, 0.1, 0.1]]))
    assert "██" in render_text(falling, color=False)
    assert "▼▼" in render_text(falling, color=False)
    assert "VVV" in render_text(falling, color=False, ascii_only=True)


def test_ascii_holds_nothing_else() -> None:
    """The ASCII form can be shown anywhere."""
    assert render_text(make_record(3, 8, hostile=True), color=False, ascii_only=True).isascii()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (make_record(0, 8, status="failed", n_requested=4), "FAILURE: This run failed after 0 of 4 prompts."),
        (make_record(3, 8, status="interrupted", n_requested=9), "WARNING: This run was interrupted after 3 of 9"),
        (make_record(1, 1, 1), "of 1 prompt"),
    ],
)
def test_unusual_runs_say_so(record: TraceRecord, said: str) -> None:
    """Failed, interrupted and tiny runs are summarised too."""
    assert said in render_text(record, width=100, color=False)
