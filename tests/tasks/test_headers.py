"""A header is no pair, a pair is no header; where it is not clear, the user is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertracer._errors import EmptyTaskError, TaskFileError, UsageError

from tests.tasks.task_files import load_pairs, load_text, pairs_of

COUNTRIES = "France,Paris\nJapan,Tokyo\nPeru,Lima\nKenya,Nairobi\n"
WORDS = "hot,cold\nbig,small\nup,down\nold,new\n"


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("country,capital", COUNTRIES),
        ("source,target", WORDS),
        ("text,label", "A good film.,positive\nA bad film.,negative\nA fine film.,positive\n"),
        ("Singular,Plural", "cat,cats\ndog,dogs\nox,oxen\n"),
        ("source_word,target_word", WORDS),
        ("word,number", "one,1\ntwo,2\nthree,3\n"),
        ("id,country,capital", "1,France,Paris\n2,Japan,Tokyo\n3,Peru,Lima\n"),
        (",country,capital", "0,France,Paris\n1,Japan,Tokyo\n2,Peru,Lima\n"),
        ("Unnamed: 0,word1,word2", "0,hot,cold\n1,big,small\n"),
    ],
)
def test_headers_that_show(tmp_path: Path, header: str, rows: str) -> None:
    """A header that differs from what stands below it is neither asked about nor shown, and no row is lost."""
    expected = {tuple(line.split(",")[-2:]) for line in rows.splitlines()}
    assert load_pairs(tmp_path, "a.csv", f"{header}\n{rows}") == expected


@pytest.mark.parametrize(
    "rows",
    [
        "4,four\n5,five\n",
        "A film.,good\nFilm two.,bad\nThree.,good\n",
        "The capital of Peru is,Lima\nThe capital of France is,Paris\n",
        "dog,beast\noak,plant\ncat,beast\n",
        "hot,cold,1\nbig,small,0\n",
    ],
)
def test_rows_without_a_header(tmp_path: Path, rows: str) -> None:
    """A first line that is plainly a row is a pair, and a note says that it was taken as one."""
    expected = {tuple(line.split(",")[:2]) for line in rows.splitlines() if not line.endswith(",0")}
    task = load_text(tmp_path, "a.csv", rows, n_shot=0)
    assert pairs_of(task) == expected
    assert task.notes[1].startswith(f"line 1 ({rows.split(',', 1)[0]!r}, ")
    assert "was taken as a pair" in task.notes[1]
    assert len(load_text(tmp_path, "a.csv", rows, n_shot=0, header=False).notes) == 1


@pytest.mark.parametrize("header", ["0,1", "1,2"])
def test_numbered_columns(tmp_path: Path, header: str) -> None:
    """The numbers that pandas gives to columns without names are a header over words, and asked about over numbers."""
    assert load_pairs(tmp_path, "a.csv", f"{header}\n{WORDS}") == {tuple(line.split(",")) for line in WORDS.split()}
    with pytest.raises(TaskFileError, match="may be the names of the columns"):
        load_text(tmp_path, "a.csv", f"{header}\n4,5\n7,9\n")


@pytest.mark.parametrize(
    "content",
    [
        "word,Wort\nhouse,Haus\n",
        "present,past\ngo,went\nrun,ran\n",
        "word,term\nword,x\nnoun,y\n",
        f"stadt,land\n{COUNTRIES}",
        COUNTRIES,
        WORDS,
        "国家,首都\n法国,巴黎\n日本,东京\n中国,北京\n",
        "mot,contraire\nchaud,froid\ngrand,petit\nhaut,bas\n",
        f"Land,Hauptstadt\n{COUNTRIES}",
        "prefix,suffix\nThe capital is,Paris\nThe city is,Lima\n",
        "premise,conclusion\nIt rains,wet\nIt snows,white\n",
        "masculine,feminine\nking,queen\nuncle,aunt\nboy,girl\n",
        "cloze,blank\nThe sky is,blue\nThe grass is,green\n",
        "Land,2019\nPeru,32\nJapan,126\n",
    ],
)
def test_unclear_first_line_is_asked_about(tmp_path: Path, content: str) -> None:
    """A first line that may be either is refused with the settings that decide, and each of them is obeyed."""
    with pytest.raises(TaskFileError, match=r"a\.csv, line 1: .* header=False \(--header, --no-header\)"):
        load_text(tmp_path, "a.csv", content)
    first, *rows = [tuple(line.split(",")) for line in content.splitlines()]
    assert load_pairs(tmp_path, "a.csv", content, header=True) == set(rows)
    assert load_pairs(tmp_path, "a.csv", content, header=False) == {first, *rows}
    assert load_pairs(tmp_path, "a.csv", content, answer_field=first[1]) == set(rows)


def test_lone_header(tmp_path: Path) -> None:
    """A line alone that names columns is asked about; as a header it leaves no record."""
    with pytest.raises(TaskFileError, match="may be the names of the columns"):
        load_text(tmp_path, "a.csv", "country,capital\n")
    with pytest.raises(TaskFileError, match="may be the names of the columns"):
        load_text(tmp_path, "a.csv", "hot,cold\n")
    with pytest.raises(EmptyTaskError, match="holds no record"):
        load_text(tmp_path, "a.csv", "country,capital\n", header=True)


def test_columns_by_number(tmp_path: Path) -> None:
    """Without a header columns are named by their numbers."""
    content = "1,hot,so,cold\n2,big,so,small\n"
    with pytest.raises(TaskFileError, match=r"got 4\. .*named by their numbers, with header=False \(--no-header\)"):
        load_text(tmp_path, "a.csv", content)
    pairs = load_pairs(tmp_path, "a.csv", content, header=False, prompt_field="2", answer_field="4")
    assert pairs == {("hot", "cold"), ("big", "small")}


def test_wide_header_of_other_names(tmp_path: Path) -> None:
    """Of more than two columns with other names the user says which are read."""
    content = "country,capital,river_name\nFrance,Paris,Seine\nJapan,Tokyo,Sumida\nPeru,Lima,Rimac\n"
    with pytest.raises(TaskFileError, match=r"line 1: the fields 'country', 'capital', 'river_name' are not known"):
        load_text(tmp_path, "a.csv", content)
    assert ("Peru", "Rimac") in load_pairs(
        tmp_path, "a.csv", content, prompt_field="country", answer_field="river_name"
    )


@pytest.mark.parametrize("header", ["input,output,output", "input,output,Output", "input,output, output"])
def test_two_columns_of_one_name(tmp_path: Path, header: str) -> None:
    """Two columns of one name, exactly or but for case and white space, are refused, not the last one read."""
    with pytest.raises(TaskFileError, match=r"a\.csv, line 1: .*(are called 'output'|have one name but for case)"):
        load_text(tmp_path, "a.csv", f"{header}\nhot,cold,WRONG\n")


def test_named_twin_is_read(tmp_path: Path) -> None:
    """Of two names that differ in case the one that the user writes is read."""
    content = "input,output,Output\nhot,cold,WRONG\n"
    assert load_pairs(tmp_path, "a.csv", content, prompt_field="input", answer_field="output") == {("hot", "cold")}


def test_header_is_for_tables(tmp_path: Path) -> None:
    """A setting for tables is refused elsewhere rather than ignored."""
    with pytest.raises(UsageError, match=r"header=True .* does not apply to .*a\.jsonl"):
        load_text(tmp_path, "a.jsonl", '{"prompt": "x", "answer": "y"}\n', header=True)
