"""The commit of a working folder: what Git says, read without running it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layertracer.runs import collect_provenance
from layertracer.runs._git import read_commit

ID = "0123456789abcdef0123456789abcdef01234567"


def _git(folder: Path, *arguments: str) -> str:
    settings = ["user.name=A", "user.email=a@example.org", "protocol.file.allow=always", "init.defaultBranch=main"]
    given = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["git", *given, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever repository the temporary folder may lie in is not looked for, by Git either."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def _repository(folder: Path, *options: str) -> Path:
    folder.mkdir(parents=True)
    _git(folder, "init", "--quiet", *options)
    (folder / "a").write_text("1")
    _git(folder, "add", "a")
    _git(folder, "commit", "--quiet", "--message", "first")
    return folder


def _on_branch(folder: Path) -> Path:
    return _repository(folder / "r")


def _below(folder: Path) -> Path:
    (below := _repository(folder / "r") / "x" / "y").mkdir(parents=True)
    return below


def _detached(folder: Path) -> Path:
    _git(repository := _repository(folder / "r"), "checkout", "--quiet", "--detach")
    return repository


def _packed(folder: Path) -> Path:
    _git(repository := _repository(folder / "r"), "tag", "-a", "-m", "t", "main-1")
    _git(repository, "branch", "other/main")
    _git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    return repository


def _worktree(folder: Path) -> Path:
    _git(repository := _repository(folder / "r"), "worktree", "add", "--quiet", "-b", "side", "../side")
    _git(folder / "side", "commit", "--quiet", "--allow-empty", "--message", "second")
    assert (folder / "side" / ".git").is_file()
    assert read_commit(repository) != read_commit(folder / "side")
    return folder / "side"


def _packed_worktree(folder: Path) -> Path:
    side = _worktree(folder)
    _git(side, "pack-refs", "--all")
    return side


def _submodule(folder: Path) -> Path:
    inner = _repository(folder / "inner")
    _git(outer := _repository(folder / "outer"), "submodule", "--quiet", "add", str(inner), "sub")
    _git(outer / "sub", "commit", "--quiet", "--allow-empty", "--message", "second")
    assert (outer / "sub" / ".git").is_file()
    return outer / "sub"


def _sha256(folder: Path) -> Path:
    return _repository(folder / "r", "--object-format=sha256")


def _chain(folder: Path) -> Path:
    _git(repository := _repository(folder / "r"), "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    _git(repository, "symbolic-ref", "HEAD", "refs/heads/alias")
    return repository


def _strange_name(folder: Path) -> Path:
    _git(repository := _repository(folder / "r"), "checkout", "--quiet", "-b", "wörk/#1")
    return repository


@pytest.mark.parametrize(
    "make",
    [
        _on_branch,
        _below,
        _detached,
        _packed,
        _worktree,
        _packed_worktree,
        _submodule,
        _sha256,
        _chain,
        _strange_name,
    ],
)
def test_the_commit_is_the_one_that_git_names(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """What is read from Git's files is what `git rev-parse HEAD` prints, however the repository keeps it."""
    folder = make(tmp_path)
    commit = read_commit(folder)
    assert commit == _git(folder, "rev-parse", "HEAD")
    assert commit is not None


def test_commit_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provenance has the commit of the folder in which one works; whether files were altered it does not say."""
    monkeypatch.chdir(folder := _on_branch(tmp_path))
    provenance = collect_provenance()
    assert (provenance["git_commit"], provenance["git_dirty"]) == (_git(folder, "rev-parse", "HEAD"), None)


def test_where_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a repository, before the first commit, and in a folder that was removed, the commit is None."""
    assert read_commit(tmp_path) is None
    (empty := tmp_path / "empty").mkdir()
    _git(empty, "init", "--quiet")
    assert read_commit(empty) is None
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert collect_provenance()["git_commit"] is None


def _head(text: str) -> Callable[[Path], None]:
    return lambda git: (git / "HEAD").write_text(text) and None


def _link(name: str, target: str) -> Callable[[Path], None]:
    def make(git: Path) -> None:
        (git / name).unlink(missing_ok=True)
        (git / name).parent.mkdir(parents=True, exist_ok=True)
        (git / name).symlink_to(target)

    return make


def _pipe(git: Path) -> None:
    (git / "HEAD").unlink()
    os.mkfifo(git / "HEAD")


def _pipe_as_branch(git: Path) -> None:
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads").mkdir(parents=True)
    os.mkfifo(git / "refs" / "heads" / "main")


def _circle(git: Path) -> None:
    (git / "HEAD").write_text("ref: refs/a\n")
    (git / "refs").mkdir()
    (git / "refs" / "a").write_text("ref: refs/b\n")
    (git / "refs" / "b").write_text("ref: refs/a\n")


def _linked_branches(git: Path) -> None:
    (git / "HEAD").write_text("ref: refs/heads/token\n")
    (git / "refs").mkdir()
    (git / "refs" / "heads").symlink_to(git.parent.parent / "secrets")


HOSTILE: dict[str, Callable[[Path], None]] = {
    "path upwards": _head("ref: refs/../../../secrets/token\n"),
    "path upwards without refs": _head("ref: ../../secrets/token\n"),
    "absolute path": _head("ref: /etc/hostname\n"),
    "a file of the repository that is no reference": _head("ref: config\n"),
    "hidden name": _head("ref: refs/heads/.invalid\n"),
    "several lines": _head(f"ref: refs/heads/main\n{ID}\n"),
    "NUL": _head("ref: refs/heads/a\0b\n"),
    "long name": _head("ref: refs/" + "x" * 3000),
    "no id": _head("password\n"),
    "39 digits": _head(ID[1:]),
    "41 digits": _head("0" + ID),
    "capitals": _head(ID.upper()),
    "other digits": _head("١" * 40),
    "large": _head(ID + " " * 10**6),
    "link to a secret": _link("HEAD", "../../secrets/token"),
    "link to a device": _link("HEAD", "/dev/zero"),
    "pipe": _pipe,
    "pipe as a branch": _pipe_as_branch,
    "circle": _circle,
    "branches elsewhere": _linked_branches,
    "packed elsewhere": lambda git: [_head("ref: refs/t\n")(git), _link("packed-refs", "../../secrets/packed")(git)][0],
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_but_a_commit_of_the_repository_is_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    """What a hostile `.git` points to elsewhere does not reach the provenance, even where it looks like an id."""
    (secrets := tmp_path / "secrets").mkdir()
    (secrets / "token").write_text(ID)
    (secrets / "packed").write_text(f"{ID} refs/t\n")
    (git := tmp_path / "model" / ".git").mkdir(parents=True)
    (git / "HEAD").touch()
    make(git)
    assert read_commit(tmp_path / "model") is None


@pytest.mark.parametrize(
    "content", ["gitdir: ../nothing", "gitdir: \0", "gitdir: a\nb", "", "x" * 10**5, "gitdir: /dev"]
)
def test_a_git_file_that_names_no_repository(content: str, tmp_path: Path) -> None:
    """A `.git` file that leads nowhere is no repository."""
    (tmp_path / ".git").write_text(content)
    assert read_commit(tmp_path) is None
