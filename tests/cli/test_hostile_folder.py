"""Commands in a folder that somebody else made: nothing of it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys

STARTS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn", "os.startfile")
here = os.path.realpath(os.getcwd())

def watch(event, arguments):
    if event.startswith(STARTS):
        print("STARTED", event, arguments[:2], file=sys.stderr)
    if event in ("exec", "compile") and here in str(getattr(arguments[0], "co_filename", arguments[-1])):
        print("RAN", arguments, file=sys.stderr)

sys.addaudithook(watch)
from layertracer.cli import main

for command in (
    "trace mini/attention --limit 2 --shots 1 --draws 1 --mask-fraction 1 --out run",
    "report run", "compare run run --resamples 10", "verify run", "models", "inspect mini/attention",
):
    main(command.split(), standalone_mode=False)
    print("DONE", command.split()[0])
"""

CONFIG = """
[core]
\trepositoryformatversion = 0
\tfsmonitor = {evil}
\tsshCommand = {evil}
\tpager = {evil}
\teditor = {evil}
\thooksPath = {here}
[filter "x"]
\tclean = {evil}
\tsmudge = {evil}
\tprocess = {evil}
[diff "x"]
\ttextconv = {evil}
[alias]
\trev-parse = !{evil}
\tstatus = !{evil}
[include]
\tpath = {here}/more
"""

MODULES = ("numpy", "torch", "json", "click", "sitecustomize", "usercustomize", "transformers", "layertracer", "triton")


def test_commands_in_a_hostile_folder_run_nothing_of_it(tmp_path: Path) -> None:
    """Whatever a folder's `.git` and its Python files name, no command starts a program or imports from the folder."""
    (here := tmp_path / "model").mkdir()
    evil, mark = here / "evil.sh", tmp_path / "mark"
    evil.write_text(f"#!/bin/sh\necho \"$0\" >> '{mark}'\n")
    evil.chmod(0o755)
    subprocess.run(["git", "init", "--quiet"], cwd=here, check=True)
    (here / ".git" / "config").write_text(CONFIG.format(evil=evil, here=here))
    (here / ".gitattributes").write_text("* filter=x diff=x\n")
    (here / ".git" / "HEAD").write_text("0123456789abcdef0123456789abcdef01234567\n")
    for name in (*MODULES, "git", "ldconfig", "uname", "post-index-change"):
        path = here / (f"{name}.py" if name in MODULES else name)
        path.write_text(f"open({str(mark)!r}, 'a').write({name!r})" if name in MODULES else evil.read_text())
        path.chmod(0o755)
    (script := tmp_path / "program.py").write_text(
        PROGRAM
    )  # as the installed command, it has its own folder on the path
    path = os.pathsep.join([str(here), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=here,
        env=os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.count("DONE") == 6, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(("STARTED", "RAN"))] == []
    assert not mark.exists()
    assert '"git_commit": "0123456789abcdef0123456789abcdef01234567"' in (here / "run" / "run.json").read_text()
