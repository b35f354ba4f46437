"""Text files of one prompt a line."""

from __future__ import annotations

import re

from layertracer._errors import EmptyTaskError, TaskFileError
from layertracer._types import Sample
from layertracer.tasks._files.content import Content, decode_text
from layertracer.tasks._files.material import FieldNames, Material
from layertracer.tasks._files.tally import count


def find_columns(content: Content) -> str | None:
    """What parts the columns of a text: tabs, as in what Excel calls Unicode text, or spaces, as R does it.

    Returns:
        None where lines are no rows of a table.
    """
    text, _ = decode_text(content, western=True)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if "\t" in lines[0].strip() and all("\t" in line.strip() or '"' in line for line in lines):
        return "\t"
    return " " if all(_QUOTED_WORDS.match(line) for line in lines) else None


_QUOTED_WORDS = re.compile(r'"[^"]*" ("[^"]*"|[-+.\w]+)( |$)')


def read_lines(content: Content, names: FieldNames) -> Material:
    """Prompts without answers, one a line as it stands; empty lines are skipped.

    Raises:
        EmptyTaskError: If there is no line.
        TaskFileError: If fields are asked for.
    """
    path = content.path
    asked = names.prompt or names.answer or names.marker
    if asked is not None or names.header is not None:
        raise TaskFileError(
            f"{path} holds one prompt a line, without fields. Leave out the settings of fields, or give a table with "
            f"tabs between its columns."
        )
    text, notes = decode_text(content, western=True)
    lines = text.replace("\r\n", "\n").split("\n")
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise EmptyTaskError(f"{path} holds no prompt. A task needs at least one.")
    return Material(
        sha256=content.sha256,
        samples=tuple(Sample(prompt=prompt) for prompt in prompts),
        description=(
            f"read {count(len(prompts), 'line')} of {path.name}: one prompt a line, no answers, so that only the "
            f"model's own token can be followed, with target='model' (--target model); running text is text:{path}"
        ),
        notes=notes,
    )
