"""The README's commands: what a newcomer types has to exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands() -> list[str]:
    """Every command in the README's ``sh`` blocks, comments and continuation lines resolved."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [stripped for line in lines if (stripped := line.split("  #")[0].strip())]


def run(words: list[str]) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = {shlex.split(command)[1] for command in commands() if command.startswith("make ")}
    assert used
    assert used <= targets


def test_every_job_with_help_lists_its_fields() -> None:
    helps = [shlex.split(command) for command in commands() if "--help" in command]
    assert helps
    for words in helps:
        assert "preset=tiny" in run([sys.executable, *words[1:]])
