"""How a pair becomes text."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._errors import UsageError
from layertracer._types import Sample
from layertracer.tasks._files.material import Pair

INPUT, OUTPUT, GAP = "{input}", "{output}", "{}"

WORD_PAIR_TEMPLATES: tuple[str, ...] = (
    "{input} -> {output}",
    "{input}: {output}",
    "{input} = {output}",
    "Input: {input}\nOutput: {output}",
    "Q: {input}\nA: {output}",
)
"""Ways to write a word pair that small models follow, the usual one first; for `load_task` and `cross_task`.

The miniatures follow the first three: of letters and colons such as "Q:" they know nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template cut where the answer begins.

    The prompt ends before the spaces that precede the output, and the answer gets them back: tokenizers join a space
    to the word that follows it.

    Attributes:
        head: Text up to the output, with "{input}" in it.
        gap: The spaces before the output.
        tail: Text behind the output; it stands in demonstrations only.
    """

    head: str
    gap: str
    tail: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template written as `text`, e.g. "{input} -> {output}".

        The wording of a relation or a fact, e.g. "The capital of {} is", is taken too: behind it stands the answer.

        Raises:
            UsageError: If `text` has not "{input}" and then "{output}", each once.
        """
        if text.count(GAP) == 1 and INPUT not in text and OUTPUT not in text:
            text = f"{text.replace(GAP, INPUT)} {OUTPUT}"
        if text.count(INPUT) != 1 or text.count(OUTPUT) != 1 or text.index(INPUT) > text.index(OUTPUT):
            raise UsageError(
                f"The template {text!r} cannot be used: it must contain {INPUT} once and behind it {OUTPUT} once, "
                f'as in "{INPUT} -> {OUTPUT}".'
            )
        before, tail = text.split(OUTPUT)
        # A line break before the output stays in the prompt: the answer's first token should be a word.
        head = before.rstrip(" \t")
        return cls(head=head, gap=before[len(head) :], tail=tail)

    @property
    def separator(self) -> str:
        """What stands between demonstrations: a line break, or an empty line where one takes several lines."""
        return "\n\n" if "\n" in self.head + self.tail else "\n"

    def render_prompt(self, text: str) -> str:
        """The prompt for an input, without demonstrations."""
        return self.head.replace(INPUT, text)

    def render_demonstration(self, pair: Pair) -> str:
        """A solved example."""
        return self.render_prompt(pair.input) + self.gap + pair.output + self.tail

    def render_sample(self, pair: Pair, demonstrations: tuple[Pair, ...]) -> Sample:
        """The sample that asks for a pair's output after the demonstrations."""
        shown = [self.render_demonstration(demonstration) for demonstration in demonstrations]
        prompt = self.separator.join([*shown, self.render_prompt(pair.input)])
        if not pair.others:
            return Sample(prompt=prompt, answer=self.gap + pair.output)
        return Sample(prompt=prompt, answers=tuple(self.gap + output for output in (pair.output, *pair.others)))
