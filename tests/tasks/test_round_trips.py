"""What pandas writes is what is read, in every shape that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layertracer._errors import TaskFileError
from layertracer.tasks import load_task

from tests.strategies import word_pairs
from tests.tasks.task_files import pairs_of

Pairs = list[tuple[str, str]]
Orient = Literal["records", "columns", "index", "split", "values", "table"]
FEW = settings(max_examples=25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files that generated examples overwrite."""
    return tmp_path_factory.mktemp("frames")


def frame(pairs: Pairs, columns: tuple[str, str] = ("input", "output")) -> pd.DataFrame:
    """The pairs as a table."""
    return pd.DataFrame(pairs, columns=list(columns))


def read(path: Path, **options: Any) -> set[tuple[str, str]]:
    """The pairs of a file."""
    return pairs_of(load_task(path, n_shot=0, **options))


@FEW
@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "values", "table"])
@given(pairs=word_pairs())
def test_json_in_every_orient(folder: Path, orient: Orient, pairs: Pairs) -> None:
    """to_json gives back its pairs, whatever its orient."""
    path = folder / "pairs.json"
    frame(pairs).to_json(path, orient=orient)
    assert read(path) == set(pairs)


@pytest.mark.parametrize("orient", ["columns", "index", "split", "values", "table"])
def test_json_of_other_columns(folder: Path, orient: Orient) -> None:
    """Two columns of names that are not known are input and output, from left to right."""
    pairs = [("France", "Paris"), ("Japan", "Tokyo"), ("Peru", "Lima"), ("Kenya", "Nairobi")]
    path = folder / "capitals.json"
    frame(pairs, ("country", "capital")).to_json(path, orient=orient)
    assert read(path) == set(pairs)


@pytest.mark.parametrize("orient", ["columns", "index", "split", "values"])
def test_json_without_names(folder: Path, orient: Orient) -> None:
    """Columns that pandas numbered are read in their order, and rows are not taken for columns."""
    pairs = [("hot", "cold"), ("big", "small"), ("up", "down"), ("old", "new")]
    path = folder / "numbered.json"
    pd.DataFrame(pairs).to_json(path, orient=orient)
    assert read(path) == set(pairs)


@FEW
@given(pairs=word_pairs())
def test_json_lines(folder: Path, pairs: Pairs) -> None:
    """JSON Lines give the same pairs under the name of JSON, and packed."""
    for name in ("lines.json", "lines.jsonl", "lines.jsonl.gz"):
        frame(pairs).to_json(folder / name, orient="records", lines=True)
        assert read(folder / name) == set(pairs)


@FEW
@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@given(pairs=word_pairs(), has_index=st.booleans(), quoting=st.sampled_from([0, 1]))
def test_tables_with_every_separator(
    folder: Path, suffix: str, separator: str, pairs: Pairs, has_index: bool, quoting: Literal[0, 1]
) -> None:
    """to_csv gives back its pairs, whatever parts the cells, with and without an index, and however it quotes."""
    path = folder / f"pairs.{suffix}"
    frame(pairs).to_csv(path, sep=separator, index=has_index, quoting=quoting)
    assert read(path) == set(pairs)


@FEW
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@given(pairs=word_pairs())
def test_encodings_with_marks(folder: Path, encoding: str, pairs: Pairs) -> None:
    """Encodings that say what they are give the same pairs."""
    frame(pairs).to_csv(folder / "coded.csv", index=False, encoding=encoding)
    assert read(folder / "coded.csv") == set(pairs)


@FEW
@given(pairs=word_pairs())
def test_tables_without_a_header(folder: Path, pairs: Pairs) -> None:
    """Without a header the first pair is never lost: all pairs come back, or the user is asked; told, all come back."""
    path = folder / "bare.csv"
    frame(pairs).to_csv(path, index=False, header=False)
    (folder / "told.csv").write_bytes(b"sep=,\n" + path.read_bytes())
    assert read(folder / "told.csv", header=False) == set(pairs)
    try:
        found = read(path)
    except TaskFileError as error:
        found = set(pairs) if "--no-header" in str(error) or "sep=" in str(error) else set()
    assert found == set(pairs)


@FEW
@given(pairs=word_pairs())
def test_columns_of_bytes(folder: Path, pairs: Pairs) -> None:
    """Parquet and Feather give back their pairs."""
    frame(pairs).to_parquet(folder / "pairs.parquet")
    frame(pairs).to_feather(folder / "pairs.feather")
    assert read(folder / "pairs.parquet") == read(folder / "pairs.feather") == set(pairs)
