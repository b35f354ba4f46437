"""What a source holds before prompts are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from layertracer._types import Sample

PAIR_TEMPLATE = "{input} -> {output}"
QUESTION_TEMPLATE = "Question: {input}\nAnswer: {output}"

Part = Literal["column", "field"]
"""What a record's parts are called in messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An input and its output, without white space at their ends.

    Attributes:
        input: What is asked about.
        output: The answer, which demonstrations show.
        others: Other answers that are right as well.
    """

    input: str
    output: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record of a source.

    Attributes:
        source: File or dataset, for messages.
        place: Where in it, e.g. "line 7".
        values: Fields by name.
    """

    source: str
    place: str
    values: Mapping[str, object]

    @property
    def where(self) -> str:
        """Source and place, for messages."""
        return f"{self.source}, {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What a reader found in a source.

    Attributes:
        source: File or dataset, for messages.
        sha256: Hash of the content that was read.
        rows: The records in their order.
        part: What their parts are called.
        notes: What is to be said about how they were read.
        is_named: Whether the source itself names the parts, as a header or an object does.
        head: Where it names them, e.g. "line 1"; empty where each record does.
        relation: Name of the relation that the records are samples of; None where the source names none.
    """

    source: str
    sha256: str
    rows: tuple[Row, ...]
    part: Part = "field"
    notes: tuple[str, ...] = ()
    is_named: bool = True
    head: str = ""
    relation: str | None = None

    @property
    def where(self) -> str:
        """Source and place of the names, for messages; of the first record, where that has them."""
        return f"{self.source}, {self.head}" if self.head else self.rows[0].where


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """How records are to be read; None where that is to be recognised.

    Attributes:
        prompt: Field of the prompt.
        answer: Field of the answer.
        marker: Text after which the final answer stands, e.g. "####".
        header: Whether a table's first line names its columns.
        prefix: Text put before the answers of finished prompts, where they do not begin with it.
    """

    prompt: str | None = None
    answer: str | None = None
    marker: str | None = None
    header: bool | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Pairs to make few-shot prompts of, finished samples, or words to generate prompts of.

    Attributes:
        sha256: Hash of the content that was read.
        pairs: Pairs, where prompts are still to be made.
        samples: Samples, where the source holds finished prompts.
        words: Words to draw from, where prompts are generated.
        template: Default template of the pairs.
        left_out: Number of records left out, by reason.
        description: One sentence on what was read of a source of the user's: how much of it, from which fields, and
            what was left out; empty for what comes with the package.
        notes: What else is to be said about how it was read.
        n_missing: Number of records left out because their prompt or answer is missing.
        is_table: Whether a first line may name columns.
        marker: Text behind which the final answers of the pairs stood; None where they were read whole.
        relation: Name of the relation, where the inputs of the pairs are the subjects of facts; None where they are
            not.
    """

    sha256: str
    pairs: tuple[Pair, ...] = ()
    samples: tuple[Sample, ...] | None = None
    words: tuple[str, ...] | None = None
    template: str = PAIR_TEMPLATE
    left_out: Mapping[str, int] = field(default_factory=dict)
    description: str = ""
    notes: tuple[str, ...] = ()
    n_missing: int = 0
    is_table: bool = False
    marker: str | None = None
    relation: str | None = None
