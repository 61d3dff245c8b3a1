"""What a verification finds: each thing that was checked, and whether it is as the receipt says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One checked thing by its ``name``, such as ``val: fid of best``; ``problem`` is empty if all bits are equal."""

    name: str
    problem: str = ""

    def __str__(self) -> str:
        return f"PROBLEM  {self.name}: {self.problem}" if self.problem else f"equal    {self.name}"


def compared(name: str, said: object, found: object) -> Finding:
    """Return the finding that two values are equal, or what both are."""
    return Finding(name, "" if said == found else f"the receipt says {said}, found {found}")


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print what is found as it is found, then all problems together; return whether there are none."""
    found = []
    for finding in findings:
        print(finding, flush=True)
        found.append(finding)
    if not found:
        return True
    problems = [finding for finding in found if finding.problem]
    verdict = f"{len(problems)} of {len(found)} checks failed" if problems else f"all {len(found)} checks passed"
    print("\n".join(["", *map(str, problems), verdict]))
    return not problems
