from __future__ import annotations

import subprocess
import sys

import pytest

from t2i.native_stderr import KNOWN, keep_lines

LINE = b"[2026-11-29 14:38:53,381 E 1 1] core_worker.cc:2465: Actor ... " + KNOWN[0] + b". If the arguments"


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [
        ([b"a\n" + LINE + b"\nb\n"], b"a\nb\n"),
        ([LINE[:20], LINE[20:70], LINE[70:] + b"\n", b"c"], b"c"),
        ([b"\r 10 %", b"\r 20 %"], b"\r 10 %\r 20 %"),
        ([b"[another line of Ray's]\n", b"[no end"], b"[another line of Ray's]\n[no end"),
    ],
)
def test_only_known_lines_are_left_out(chunks: list[bytes], kept: bytes) -> None:
    assert b"".join(keep_lines(iter(chunks))) == kept


def test_what_has_no_end_yet_is_passed_on_at_once() -> None:
    assert next(keep_lines(iter([b"\r 10 %"]))) == b"\r 10 %"


def test_native_and_python_errors_both_arrive() -> None:
    code = f"""
import os, sys
from t2i.native_stderr import hide_known_lines
hide_known_lines()
os.write(2, {LINE!r} + b"\\n" + b"native\\n")
print("python", file=sys.stderr)
import time; time.sleep(0.3)
raise SystemExit("the end")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert (done.returncode, sorted(done.stderr.split("\n"))) == (1, ["", "native", "python", "the end"])
