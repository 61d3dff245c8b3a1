from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from t2i.logs import get_logger, name_request, set_log_format


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What our own handler prints."""
    get_logger("tests")
    stream = io.StringIO()
    for handler in logging.getLogger("t2i").handlers:
        if type(handler) is logging.StreamHandler:  # and not pytest's
            monkeypatch.setattr(handler, "stream", stream)
    yield stream
    set_log_format("text")


def lines(printed: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def test_json_lines_have_the_id_of_their_task_s_request(printed: io.StringIO) -> None:
    set_log_format("json")

    async def work(name: str) -> None:
        name_request(name)
        await asyncio.sleep(0)
        await asyncio.to_thread(get_logger("tests").info, "drawn “%s”", name)

    async def main() -> None:
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(main())
    get_logger("tests").warning("of none")
    told = lines(printed)
    ids = {line["message"]: line.get("request_id") for line in told}
    assert ids == {"drawn “a”": "a", "drawn “b”": "b", "of none": None}
    assert set(told[0]) == {"time", "level", "logger", "message", "request_id"}
    assert (told[-1]["level"], told[-1]["logger"]) == ("WARNING", "t2i.tests")


def test_a_line_may_name_its_request_itself(printed: io.StringIO) -> None:
    set_log_format("json")
    get_logger("tests").info("left", extra={"request_id": "mine"})
    assert lines(printed)[0]["request_id"] == "mine"


def test_a_traceback_stays_on_the_line(printed: io.StringIO) -> None:
    set_log_format("json")
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("tests").exception("failed")
    (line,) = lines(printed)
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: broken")


def test_text_is_as_it_was(printed: io.StringIO) -> None:
    set_log_format("json")
    set_log_format("text")
    get_logger("tests").info("ready")
    assert printed.getvalue().endswith(" INFO t2i.tests: ready\n")


def test_a_program_s_own_formatter_is_left_alone(printed: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    for handler in logging.getLogger("t2i").handlers:
        monkeypatch.setattr(handler, "formatter", logging.Formatter("mine: %(message)s"))
    set_log_format("json")
    get_logger("tests").info("ready")
    assert printed.getvalue() == "mine: ready\n"
