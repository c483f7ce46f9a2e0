"""Answers that are kept: made once for all who ask, renewed while the old one is given, bounded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Response

from api.telemetry import answers
from api.telemetry.answers import FRESH_S, STALE_S, Answers
from events.errors import Retryable
from tests.support.waiting import eventually


class Desk:
    """Makes numbered answers, each when it is let; its clock stands still."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.made = 0
        self.open = asyncio.Event()
        self.open.set()
        self.answers = Answers(lambda: self.now_s)

    async def _make(self, status: int) -> Response:
        await self.open.wait()
        self.made += 1
        if status == 503:
            raise Retryable
        return Response(f"answer {self.made}", status)

    def making(self, status: int = 200) -> Callable[[], Awaitable[Response]]:
        return lambda: self._make(status)

    async def ask(self, key: str = "key", status: int = 200) -> str:
        return bytes((await self.answers.get(key, self.making(status))).body).decode()


async def test_what_many_ask_at_once_is_made_once_and_kept() -> None:
    desk = Desk()
    assert set(await asyncio.gather(*(desk.ask() for _ in range(20)))) == {"answer 1"}
    desk.now_s = FRESH_S * 0.9
    assert await desk.ask() == "answer 1"
    assert await desk.ask("another") == "answer 2"


async def test_an_older_answer_is_given_while_the_next_one_is_made() -> None:
    desk = Desk()
    await desk.ask()
    desk.now_s = FRESH_S
    desk.open.clear()
    assert [await desk.ask(), await desk.ask()] == ["answer 1", "answer 1"]
    desk.open.set()
    await eventually(lambda: desk.made == 2)
    assert (await desk.ask(), desk.made) == ("answer 2", 2)


async def test_nobody_is_given_what_is_too_old() -> None:
    desk = Desk()
    await desk.ask()
    desk.now_s = STALE_S
    assert await desk.ask() == "answer 2"


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    desk = Desk()
    desk.open.clear()
    first = asyncio.create_task(desk.ask())
    second = asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    first.cancel()
    desk.open.set()
    assert (await second, desk.made) == ("answer 1", 1)


async def test_only_what_succeeded_is_kept() -> None:
    desk = Desk()
    with pytest.raises(Retryable):
        await desk.ask(status=503)
    assert await desk.ask(status=404) == "answer 2"
    assert await desk.ask() == "answer 3"


async def test_headers_that_are_added_to_a_copy_are_on_no_other() -> None:
    desk = Desk()
    for _ in range(3):
        response = await desk.answers.get("key", desk.making())
        response.headers.append("x-added", "1")
        assert response.headers.getlist("x-added") == ["1"]


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWERS_MAX", 3)
    desk = Desk()
    for key in "abcd":
        await desk.ask(key)
    await desk.ask("b")
    assert desk.made == 4
    await desk.ask("a")
    assert desk.made == 5, "it was the one that had not been asked for for longest"
    monkeypatch.setattr(answers, "BYTES_MAX", 10)
    await desk.ask("e")
    await desk.ask("b")
    assert desk.made == 7
