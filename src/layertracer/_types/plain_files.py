"""Regular files of a known size at most, and nothing else that may lie at a path."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class FileTooLargeError(OSError):
    """A file that has more bytes than make sense.

    Attributes:
        n_bytes: How many it has.
    """

    def __init__(self, n_bytes: int, limit: int) -> None:
        super().__init__(f"it has {n_bytes} bytes or more, and may have {limit}")
        self.n_bytes = n_bytes


class NotAFileError(OSError):
    """A pipe, a device, a socket or a folder where a file should be."""


def read_plain_file(path: Path, *, limit: int, follows_links: bool = True) -> bytes:
    """The content of a regular file.

    Pipes, devices and sockets are not opened for reading: they may never end. Links are followed, as people keep large
    files elsewhere (DVC, git-annex), unless told otherwise; what they lead to must be a regular file, too.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        follows_links: Whether a link at the path is followed; else it is no regular file.

    Raises:
        FileTooLargeError: If it has more.
        NotAFileError: If it is no regular file.
        OSError: If it cannot be read.
    """
    # Before it is opened, which a device may answer by doing something.
    _require_regular(path.stat(follow_symlinks=follows_links))
    # O_NONBLOCK: without it, opening a pipe that has taken the file's place waits for somebody who writes.
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", *(() if follows_links else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        _require_regular(status)
        if status.st_size > limit:
            raise FileTooLargeError(status.st_size, limit)
        content = file.read(limit + 1)
    if len(content) > limit:  # it grew, or says that it is empty, as files of the system do
        raise FileTooLargeError(len(content), limit)
    return content


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError("it is not a regular file")
