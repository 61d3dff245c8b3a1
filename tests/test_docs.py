"""What the documents name exists: links, paths in backticks, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "deploy/docker/README.md",
    ROOT / "deploy/README.md",
    ROOT / "deploy/monitoring/README.md",
    ROOT / "models/trained/small/README.md",
]
SOURCE_ROOTS = [ROOT, ROOT / "platform", ROOT / "platform/t2i"]
MADE_BY_RUNS = ("runs/", "tiny/", "unreadable")
"""How paths begin that are in no checkout: they come into being when somebody runs a job."""
FILE_OR_FOLDER = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+)?|[\w-]+\.(?:py|md|yaml|toml|proto)")
"""``a/b.py``, ``a/b/``, ``a/b`` or a bare ``b.py``, and nothing else: no spaces, no placeholders, not absolute."""

ASKS_FOR_A_GPU = re.compile(r'is_cuda|torch\.cuda\b|== "c(?:uda|pu)"')


def document_name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def prose(document: Path) -> str:
    """The document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    """The targets of links and pictures that are files, without their anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def exists(path: str, folders: list[Path]) -> bool:
    return any((folder / path).exists() for folder in folders)


def missing_paths(text: str, home: Path) -> list[str]:
    """The paths in backticks that are neither below a source root, nor ``home``, nor a folder named before on the line.

    A bare ``name.py`` is looked for in these places too, and among the jobs.
    """
    missing = []
    for line in text.splitlines():
        folders = [*SOURCE_ROOTS, ROOT / "jobs", home]
        for quoted in re.findall(r"`([^`]+)`", line):
            if quoted.startswith(MADE_BY_RUNS):
                continue
            if FILE_OR_FOLDER.fullmatch(quoted) and not exists(quoted, folders):
                missing.append(quoted)
            folders += [root / quoted for root in SOURCE_ROOTS if (root / quoted).is_dir()]
    return missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    assert [link for link in links(document) if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_every_path_in_backticks_exists(document: Path) -> None:
    assert missing_paths(prose(document), document.parent) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z -]+)", document.read_text(), flags=re.MULTILINE)
    assert {target for words in named for target in words.split("  ")[0].split()} <= targets


def test_contributing_names_every_file_that_asks_for_a_gpu_with_the_test_of_it() -> None:
    files = [*(ROOT / "models").rglob("*.py"), *(ROOT / "platform").rglob("*.py")]
    asking = {str(file.relative_to(ROOT)) for file in files if ASKS_FOR_A_GPU.search(file.read_text())}
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## What only a GPU runs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\S+\.py)` \| .* \| `(\S+\.py)`: `(\w+)`.* \|$", section, flags=re.MULTILINE)
    assert {file for file, _, _ in rows} == asking
    assert [test for _, file, test in rows if f"def {test}(" not in (ROOT / file).read_text()] == []


def test_a_wrong_path_is_found() -> None:
    right = "| `t2i/train` | `fit.py`, `tasks/base.py` | `models/prior/masks.py`, `jobs/`, `prior.*`, `a b/c` |"
    assert missing_paths(right, ROOT) == []
    wrong = "| `t2i/train` | `masks.py`, `tasks/none.py` | `models/prior/mask.py`, `job/` |"
    assert missing_paths(wrong, ROOT) == ["masks.py", "tasks/none.py", "models/prior/mask.py", "job/"]
