"""What a process may still take, out of the files of the kernel; the default budget is a share of it."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

import layertracer as lt
from layertracer.tracing._batching.memory_budget import default_budget_bytes
from layertracer.tracing._batching.memory_limits import free_bytes, rooms_in_groups

from tests.support.models.families import build_tiny

V1 = {"limit": "memory.limit_in_bytes", "usage": "memory.usage_in_bytes", "inactive": "total_inactive_file"}
V2 = {"limit": "memory.max", "usage": "memory.current", "inactive": "inactive_file"}


def group(folder: Path, names: Mapping[str, str], *, limit: object, usage: object, inactive: object = 0) -> None:
    """A control group as the kernel shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names["limit"]).write_text(f"{limit}\n", encoding="ascii")
    (folder / names["usage"]).write_text(f"{usage}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"cache 5\n{names['inactive']} {inactive}\n", encoding="ascii")


def process(tmp_path: Path, paths: str, mounts: str) -> Path:
    """The kernel's account of a process."""
    folder = tmp_path / "process"
    folder.mkdir()
    (folder / "cgroup").write_text(paths, encoding="ascii")
    (folder / "mountinfo").write_text(mounts, encoding="ascii")
    return folder


def mounted_v1(tmp_path: Path, root: str = "/") -> str:
    """The line of a mount of version 1, memory, after one of other controllers."""
    other = "29 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    return f"{other}30 25 0:27 {root} {tmp_path}/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"


def mounted_v2(tmp_path: Path) -> str:
    """The line of a mount of version 2."""
    return f"31 25 0:28 / {tmp_path}/unified rw,relatime - cgroup2 cgroup2 rw\n"


def test_version_1_every_group_on_the_path_counts(tmp_path: Path) -> None:
    """A process may take no more than the tightest of its groups leaves; files that can be given up count as free."""
    group(tmp_path / "memory", V1, limit=9223372036854771712, usage=7000)
    group(tmp_path / "memory/a", V1, limit=5000, usage=4200, inactive=100)
    group(tmp_path / "memory/a/b", V1, limit=3000, usage=500, inactive=50)
    seen = process(tmp_path, "4:cpu,cpuacct:/elsewhere\n3:memory:/a/b\n0::/\n", mounted_v1(tmp_path))
    assert rooms_in_groups(seen) == [2550, 900]


def test_version_2_max_is_no_limit(tmp_path: Path) -> None:
    """A limit of "max" is none; what is above it on the path limits, and so does the mark of throttling."""
    group(tmp_path / "unified/a", V2, limit=8000, usage=1000)
    group(tmp_path / "unified/a/b", V2, limit="max", usage=600, inactive=200)
    (tmp_path / "unified/a/b/memory.high").write_text("900\n", encoding="ascii")
    seen = process(tmp_path, "0::/a/b\n", mounted_v2(tmp_path))
    assert rooms_in_groups(seen) == [500, 7000]


def test_both_versions_at_once(tmp_path: Path) -> None:
    """Where memory is controlled by version 1, its groups count beside those of version 2."""
    group(tmp_path / "memory/a", V1, limit=4000, usage=1000)
    group(tmp_path / "unified/a", V2, limit=2000, usage=500)
    seen = process(tmp_path, "9:memory:/a\n0::/a\n", mounted_v1(tmp_path) + mounted_v2(tmp_path))
    assert sorted(rooms_in_groups(seen)) == [1500, 3000]


@pytest.mark.parametrize("path", ["/docker/7f", "/docker/7f/inner", "/../../other", "/not/there"])
def test_a_container_sees_its_own_group_as_the_topmost(tmp_path: Path, path: str) -> None:
    """The mount's root is taken off the path; a path that cannot be seen stands for the topmost group."""
    group(tmp_path / "memory", V1, limit=1000, usage=300)
    seen = process(tmp_path, f"9:memory:{path}\n", mounted_v1(tmp_path, root="/docker/7f"))
    assert rooms_in_groups(seen) == [700]


def test_a_group_beyond_its_limit_leaves_nothing(tmp_path: Path) -> None:
    """No room is negative."""
    group(tmp_path / "memory", V1, limit=1000, usage=1300)
    seen = process(tmp_path, "9:memory:/\n", mounted_v1(tmp_path))
    assert rooms_in_groups(seen) == [0]


@pytest.mark.parametrize(
    ("limit", "usage", "stat"),
    [
        ("", "5", "x 1"),
        ("-1", "5", ""),
        ("lots", "5", ""),
        ("1000", "", ""),
        ("1000", "five", "total_inactive_file"),
        ("9" * 40, "5", ""),
    ],
)
def test_garbage_is_no_limit(tmp_path: Path, limit: str, usage: str, stat: str) -> None:
    """Files that hold something else than a number limit nothing, and break nothing."""
    group(tmp_path / "memory", V1, limit=limit, usage=usage)
    (tmp_path / "memory/memory.stat").write_text(stat, encoding="ascii")
    seen = process(tmp_path, "9:memory:/\nnonsense\n::\n", mounted_v1(tmp_path) + "nonsense - cgroup\n - \n")
    assert rooms_in_groups(seen) == []


def test_a_system_without_groups_has_no_limit(tmp_path: Path) -> None:
    """Where the kernel shows no groups, there is nothing to keep to."""
    assert rooms_in_groups(tmp_path / "absent") == []


def test_the_default_budget_is_a_share_of_what_is_left() -> None:
    """Four fifths of what may be taken, which is never more than what the machine has free."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    assert default_budget_bytes(model.network) == pytest.approx(0.8 * free_bytes(), rel=0.05)
    assert free_bytes() <= 1.05 * psutil.virtual_memory().available


def test_a_limit_of_the_process_counts() -> None:
    """A limit on addresses, as a shell's or a scheduler's, leaves what is not yet used of it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    try:
        assert free_bytes() <= 2**30
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
