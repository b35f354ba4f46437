"""The tasks that come with the package."""

from __future__ import annotations

from importlib import resources

from layertracer._errors import UnknownNameError
from layertracer.tasks._files.content import hash_content
from layertracer.tasks._files.material import Material, Pair
from layertracer.tasks._task import TaskInfo

_WORDNET = "WordNet 3.0, common words, read and selected (licence: WORDNET_LICENSE beside the data)"
_OWN = "written for LayerTracer"

_DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "antonym": ("the opposite of a word", _WORDNET),
    "country-capital": ("the capital of a country", _OWN),
    "present-past": ("the past tense of a verb, regular or irregular", _OWN),
    "singular-plural": ("the plural of a noun, regular or irregular", _OWN),
    "synonym": ("a word of the same meaning", _WORDNET),
}

RECALL = "recall"
"""The built-in task whose prompts are generated."""

PAIR_NAMES: tuple[str, ...] = tuple(_DESCRIPTIONS)
"""The built-in tasks of word pairs."""

BUILTIN_NAMES: tuple[str, ...] = tuple(sorted((*PAIR_NAMES, RECALL)))


def read_builtin(name: str) -> Material:
    """The pairs of the built-in task called `name`, which must be one of `PAIR_NAMES`."""
    content = (resources.files("layertracer.tasks") / "data" / f"{name}.tsv").read_bytes()
    lines = content.decode("utf-8").splitlines()[1:]
    cells = [line.split("\t") for line in lines]
    return Material(
        sha256=hash_content(content), pairs=tuple(Pair(input=before, output=after) for before, after in cells)
    )


def builtin_pairs(name: str) -> tuple[tuple[str, str], ...]:
    """The pairs of a built-in task, in the order of its file.

    Args:
        name: A name out of `list_tasks`, other than "recall", which has no pairs of its own.

    Raises:
        UnknownNameError: If there is no such task; the message names near matches.

    Example:
        >>> builtin_pairs("antonym")[0]
        ('able', 'unable')
    """
    if name not in PAIR_NAMES:
        raise UnknownNameError.among("task", name, PAIR_NAMES)
    return tuple((pair.input, pair.output) for pair in read_builtin(name).pairs)


def list_tasks() -> tuple[TaskInfo, ...]:
    """The built-in tasks, by name.

    Example:
        >>> [info.name for info in list_tasks()]
        ['antonym', 'country-capital', 'present-past', 'recall', 'singular-plural', 'synonym']
    """
    return tuple(_describe(name) for name in BUILTIN_NAMES)


def _describe(name: str) -> TaskInfo:
    """One built-in task."""
    if name == RECALL:
        return TaskInfo(
            name=name,
            n_pairs=0,
            description="the value of a key, out of keys with values",
            source=_OWN,
            example=("moon river, stone cloud; moon", "river"),
        )
    pairs = read_builtin(name).pairs
    description, source = _DESCRIPTIONS[name]
    return TaskInfo(
        name=name,
        n_pairs=len(pairs),
        description=description,
        source=source,
        example=(pairs[0].input, pairs[0].output),
    )
