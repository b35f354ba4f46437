"""The tasks that come with the package, and the script that makes two of them."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import pytest

import layertracer.tasks
from layertracer._errors import UnknownNameError
from layertracer.tasks import list_tasks, load_task

DATA = Path(layertracer.tasks.__file__).parent / "data"
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_word_pairs.py"
NAMES = [info.name for info in list_tasks() if info.n_pairs]
LOWER_CASE = [name for name in NAMES if name != "country-capital"]
BOTH_DIRECTIONS = ["antonym", "synonym"]


def read_pairs(name: str) -> list[tuple[str, str]]:
    """The pairs of a data file, read as plainly as possible."""
    header, *lines = (DATA / f"{name}.tsv").read_text("utf-8").removesuffix("\n").split("\n")
    assert header == "input\toutput"
    return [(first, second) for first, second in (line.split("\t") for line in lines)]


@pytest.fixture(scope="module")
def script() -> types.ModuleType:
    """The script that makes antonym and synonym."""
    spec = importlib.util.spec_from_file_location("make_word_pairs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_data_is_clean(name: str) -> None:
    """No pair, input or output stands twice, no text has white space at its ends, and none answers itself."""
    pairs = read_pairs(name)
    inputs, outputs = [first for first, _ in pairs], [second for _, second in pairs]
    assert len(set(inputs)) == len(inputs) >= 120
    assert len(set(outputs)) == len(outputs)
    assert all(text and text == text.strip() for text in inputs + outputs)
    assert all(first != second for first, second in pairs)
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("name", LOWER_CASE)
def test_words_are_single_and_lower_case(name: str) -> None:
    """Inputs and outputs of word tasks are single lower-case alphabetic words."""
    assert all(word.isascii() and word.isalpha() and word.islower() for pair in read_pairs(name) for word in pair)


def test_countries_and_capitals_are_names() -> None:
    """Countries and capitals begin with a capital letter."""
    assert all(text[0].isupper() for pair in read_pairs("country-capital") for text in pair)


@pytest.mark.parametrize("name", BOTH_DIRECTIONS)
def test_both_directions_are_there(name: str) -> None:
    """Antonyms and synonyms are pairs in both directions, several hundred of them."""
    pairs = set(read_pairs(name))
    assert {(second, first) for first, second in pairs} == pairs
    assert 300 <= len(pairs) <= 600


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("antonym", ("hot", "cold")),
        ("synonym", ("begin", "start")),
        ("country-capital", ("France", "Paris")),
        ("singular-plural", ("child", "children")),
        ("singular-plural", ("book", "books")),
        ("present-past", ("go", "went")),
        ("present-past", ("walk", "walked")),
    ],
)
def test_well_known_facts_are_there(name: str, pair: tuple[str, str]) -> None:
    """Each task holds what anybody would look for first, regular and irregular."""
    assert pair in read_pairs(name)


@pytest.mark.parametrize("name", NAMES)
def test_list_describes_the_files(name: str) -> None:
    """The list of tasks gives each task's number of pairs, a pair of it, and where it is from."""
    info = next(info for info in list_tasks() if info.name == name)
    pairs = read_pairs(name)
    assert info.n_pairs == len(pairs)
    assert info.example in pairs
    assert info.description
    assert ("WordNet" in info.source) == (name in BOTH_DIRECTIONS)


def test_every_data_file_is_listed() -> None:
    """Each data file of the package is a listed task."""
    assert sorted(path.stem for path in DATA.glob("*.tsv")) == sorted(NAMES)


def test_wordnet_licence_is_beside_the_data() -> None:
    """WordNet's copyright notice and disclaimer are shipped with its pairs, as its licence asks."""
    notice = (DATA / "WORDNET_LICENSE").read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert 'PROVIDED "AS IS"' in notice
    assert "Permission to use, copy, modify and distribute" in notice


@pytest.mark.parametrize("name", NAMES)
def test_builtin_task_loads(name: str) -> None:
    """A built-in task gives five-shot prompts that end in an arrow, and answers that begin with a space."""
    task = load_task(name)
    assert task.name == name
    assert task.spec["source"] == "built-in"
    assert all(sample.prompt and sample.prompt.count("\n") == 5 and sample.prompt.endswith(" ->") for sample in task)
    assert all(sample.answer and sample.answer[0] == " " and sample.answer[1:].strip() for sample in task)
    assert len(task) + task.spec["n_shot"] + sum(task.spec["n_left_out"].values()) == len(read_pairs(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("antonyms", r"Unknown task 'antonyms'\. Did you mean 'antonym'.*Known: antonym.*\.json.*text:FILE.*hf:name"),
        ("zzz", r"Unknown task 'zzz'\. Known: antonym"),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    """An unknown name is refused with near matches, the known names and the other ways to name a task."""
    with pytest.raises(UnknownNameError, match=message):
        load_task(name)


# ---------------------------------------------------------------- the script


def write_table(path: Path, rows: list[tuple[str, str, int, int]]) -> None:
    """A table as WordNet's pairs come."""
    header = "input\toutput\tpos\ttagcount_input\ttagcount_output\n"
    path.write_text(header + "".join(f"{a}\t{b}\tadj\t{m}\t{n}\n" for a, b, m, n in rows), "utf-8")


@pytest.mark.parametrize("name", BOTH_DIRECTIONS)
def test_shipped_pairs_are_the_reviewed_ones(name: str, script: types.ModuleType) -> None:
    """The shipped file holds the script's reviewed pairs in both directions, and nothing else."""
    kept = script.parse_kept(script.KEPT_ANTONYMS if name == "antonym" else script.KEPT_SYNONYMS)
    assert set(read_pairs(name)) == {*kept, *((second, first) for first, second in kept)}


def test_script_keeps_common_single_words(script: types.ModuleType, tmp_path: Path) -> None:
    """Of WordNet's pairs those are common whose words are single, lower case, and both tagged often enough."""
    enough = script.MIN_COUNT
    rows = [("hot", "cold", enough, enough), ("arid", "wet", enough - 1, 99), ("wet", "arid", 99, enough - 1)]
    rows += [("North", "South", 99, 99), ("look up", "look down", 99, 99), ("off-key", "tuneful", 99, 99)]
    write_table(tmp_path / "antonyms.tsv", rows)
    assert script.read_common_pairs(tmp_path / "antonyms.tsv") == {("hot", "cold")}


def test_script_writes_both_directions(script: types.ModuleType, tmp_path: Path) -> None:
    """A kept pair is written in both directions, sorted, and can be read back."""
    pairs = script.select_pairs({("hot", "cold"), ("cold", "hot"), ("up", "down")}, [("hot", "cold")])
    script.write_pairs(tmp_path / "task.tsv", pairs)
    assert (tmp_path / "task.tsv").read_text("utf-8") == "input\toutput\ncold\thot\nhot\tcold\n"


def test_script_refuses_what_wordnet_has_not(script: types.ModuleType) -> None:
    """A kept pair that WordNet has not, in one direction or both, stops the script."""
    with pytest.raises(SystemExit, match=r"not among WordNet's common pairs: \[\('up', 'down'\)\]"):
        script.select_pairs({("down", "up")}, [("up", "down")])


def test_script_refuses_a_word_in_two_pairs(script: types.ModuleType) -> None:
    """A word in two kept pairs, which would give a prompt two right answers, stops the script."""
    with pytest.raises(SystemExit, match="'new old' is in another kept pair"):
        script.parse_kept("old young; new old")
