"""Tables as spreadsheets, R and others write them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from layertracer._errors import TaskFileError

from tests.tasks.task_files import load_pairs, load_text

TABLES = [
    # Excel: quotes around commas and quotes, in text with tabs too; a first line that tells the separator.
    ("a.tsv", 'input\toutput\r\n"capital, USA"\t"Washington, D.C."\r\n"say ""hi"""\thello\r\n',
     {("capital, USA", "Washington, D.C."), ('say "hi"', "hello")}),
    ("a.csv", "sep=;\r\ninput;output\r\nhot, x;cold\r\n", {("hot, x", "cold")}),
    ("a.txt", "input\toutput\r\nhot\tcold\r\n", {("hot", "cold")}),
    ("a.csv", "input,output,,\nhot,cold,,\nbig,small,,\n", {("hot", "cold"), ("big", "small")}),
    # European decimals: the commas part nothing.
    ("a.csv", "input;output\n2,5;7,25\n1,5;3,0\n", {("2,5", "7,25"), ("1,5", "3,0")}),
    ("a.csv", "2,5;7,25\n1,5;3,0\n", {("2,5", "7,25"), ("1,5", "3,0")}),
    ("a.csv", "I like tea; coffee,good\nMilk,bad\n", {("I like tea; coffee", "good"), ("Milk", "bad")}),
    # R: names of rows under no header of their own, or under an empty one; all text quoted.
    ("a.tsv", '"input"\t"output"\n"1"\t"hot"\t"cold"\n', {("hot", "cold")}),
    ("a.csv", '"","input","output"\n"1","hot","cold"\n', {("hot", "cold")}),
    ("a.txt", '"input" "output"\n"1" "hot" "ice cold"\n', {("hot", "ice cold")}),
    # Quotes: line breaks inside, spaces around, backslashes before; in tables with tabs also as plain text.
    ("a.csv", 'input,output\n"two\nlines",x\n', {("two\nlines", "x")}),
    ("a.csv", 'input, output\n"a, b", "c, d"\n', {("a, b", "c, d")}),
    ("a.csv", 'input,output\n"say \\"hi\\"",x\n', {('say "hi"', "x")}),
    ("a.tsv", 'input\toutput\n"So be it\tx\n5" disk\ty\n', {('"So be it', "x"), ('5" disk', "y")}),
    ("a.csv", "input,output\rhot,cold\rbig,small\r", {("hot", "cold"), ("big", "small")}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "pairs"), TABLES)
def test_tables_as_programs_write_them(tmp_path: Path, name: str, content: str, pairs: set[tuple[str, str]]) -> None:
    """What a program writes is read as it meant it."""
    assert load_pairs(tmp_path, name, content) == pairs


def test_two_separators_that_fit(tmp_path: Path) -> None:
    """Where two separators part all lines into two columns, the user is asked, and a first line decides."""
    content = "1,5;2\n2;2,5\n"
    with pytest.raises(TaskFileError, match=r"line 1: commas and semicolons both part the lines .* sep=,"):
        load_text(tmp_path, "a.csv", content)
    assert load_pairs(tmp_path, "a.csv", f"sep=;\n{content}") == {("1,5", "2"), ("2", "2,5")}


def test_too_many_cells(tmp_path: Path) -> None:
    """A line with a separator too many is refused with what is missing: quotes."""
    with pytest.raises(TaskFileError, match=r"a\.csv, line 2: expected 2 columns .* got 3\. .*need quotes"):
        load_text(tmp_path, "a.csv", "input,output\na, b,c\n")


SAID = [
    (
        "country,capital\nFrance,Paris\nPeru,\nJapan,Tokyo\nChad, \nKenya,Nairobi\n",
        ("3 of 5", "'country'", "'capital'", "2 rows left out: empty answer (lines 3, 5)"),
    ),
    (
        '"input","output"\n"hot","cold"\n"big",NA\n',
        ("1 of 2", "'input'", "'output'", "1 row left out: answer is NA (line 3)"),
    ),
    ("input,output\na,b\na,b\n", ("1 of 2", "'input'", "'output'", "1 row left out: repeats an earlier pair (line 3)")),
    ("input,output\na,b\n,c\n", ("1 of 2", "'input'", "'output'", "1 row left out: empty prompt (line 3)")),
    (
        "hot,cold,1\nbig,small,0\n",
        ("1 of 2", "1", "2", "1 row left out: label 0, the relation does not hold (line 2)"),
    ),
]


@pytest.mark.parametrize(("content", "said"), SAID)
def test_what_was_read_is_said(tmp_path: Path, content: str, said: tuple[str, str, str, str]) -> None:
    """The notes say which columns were read, how many rows of how many, and why others were left out, with lines."""
    how_many, prompt, answer, left_out = said
    task = load_text(tmp_path, "a.csv", content, n_shot=0)
    note = f"read {how_many} rows of a.csv: prompt from column {prompt}, answer from column {answer}; {left_out}"
    n_scored, n_rows = map(int, how_many.split(" of "))
    assert len(task) == n_scored
    taken = [note for note in task.notes[1:] if "(--header)" in note]
    assert [*task.notes] == [note, *taken] == task.spec["notes"]
    assert len(taken) == (prompt == "1")
    assert sum(task.spec["n_left_out"].values()) == n_rows - n_scored


def test_words_that_may_mean_nothing(tmp_path: Path) -> None:
    """NA may be Namibia: it is read as it stands, and said."""
    task = load_text(tmp_path, "a.csv", "country,code\nNamibia,NA\nFrance,FR\nPeru,PE\nJapan,JP\n", n_shot=0)
    assert {sample.answer for sample in task} == {" NA", " FR", " PE", " JP"}
    assert "1 cell of column 'code' read as words" in task.notes[1]
    assert "'NA' (line 2)" in task.notes[1]


def test_all_spellings_of_nothing_are_listed(tmp_path: Path) -> None:
    """Words that may stand for a missing value are named in each spelling, once."""
    task = load_text(tmp_path, "a.csv", "input,output\na,NA\nb,null\nc,NA\nd,nan\ne,x\n", n_shot=0)
    assert len(task) == 5
    assert "4 cells of column 'output' read as words" in task.notes[1]
    assert "no value: 'NA', 'null', 'nan' (lines 2, 3, 4, 5)" in task.notes[1]


def test_limit_is_said(tmp_path: Path) -> None:
    """A limit that leaves prompts out is in the notes; one that does not is no news."""
    content = "input,output\n" + "".join(f"w{i},v{i}\n" for i in range(9))
    assert load_text(tmp_path, "a.csv", content, n_shot=2, limit=3).notes[-1].startswith("3 of 7 prompts are asked")
    assert len(load_text(tmp_path, "a.csv", content, n_shot=2, limit=7).notes) == 1


def test_too_few_pairs_with_what_was_read(tmp_path: Path) -> None:
    """Where too little is left, the message says what was read."""
    with pytest.raises(Exception, match=r"No sample is left: n_shot=5 .*\(read 1 of 2 rows of a\.csv: .*label 0"):
        load_text(tmp_path, "a.csv", "hot,cold,1\nbig,small,0\n")


def test_long_cells_and_many_rows(tmp_path: Path) -> None:
    """A cell of megabytes is read, and a hundred thousand rows in seconds; unclosed quotes end at once."""
    assert load_text(tmp_path, "a.csv", f"prompt,answer\n{'a' * 3_000_000},b\n")[0].answer == "b"
    began = time.perf_counter()
    rows = "".join(f"w{i},v{i}\n" for i in range(100_000))
    assert len(load_text(tmp_path, "a.csv", f"prompt,answer\n{rows}")) == 100_000
    with pytest.raises(TaskFileError, match="line 2: no valid CSV"):
        load_text(tmp_path, "a.csv", "input,output\n" + '"a,' * 100_001)
    assert time.perf_counter() - began < 60
