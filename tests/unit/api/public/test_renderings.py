"""Renderings: made once, however many ask; bounded; what nobody asks for goes first."""

import asyncio
from collections.abc import Awaitable, Callable

from api.public.renderings import Renderings


def made_of(text: str | None, made: list[str | None]) -> Callable[[], Awaitable[str | None]]:
    """Return something that renders a text, and notes that it did."""

    async def render() -> str | None:
        await asyncio.sleep(0)
        made.append(text)
        return text

    return render


async def test_many_who_ask_at_once_get_one_rendering() -> None:
    renderings, made = Renderings(), list[str | None]()
    found = await asyncio.gather(*(renderings.get("film", made_of("text", made)) for _ in range(20)))
    assert made == ["text"]
    assert {item.body for item in found if item} == {b"text"} and len({item.etag for item in found if item}) == 1
    other = await renderings.get("other", made_of("texts", made))
    assert other is not None and found[0] is not None and other.etag != found[0].etag


async def test_what_is_not_there_yet_is_asked_for_again() -> None:
    renderings, made = Renderings(), list[str | None]()
    assert await renderings.get("film", made_of(None, made)) is None
    assert await renderings.get("film", made_of("text", made)) is not None
    assert made == [None, "text"]


async def test_memory_is_bounded_and_what_nobody_asks_for_goes_first() -> None:
    renderings, made = Renderings(bytes_max=10), list[str | None]()
    for key in ("a", "b", "a", "c", "a", "b"):
        found = await renderings.get(key, made_of(key * 4, made))
        assert found is not None and found.body == key.encode() * 4
    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]
    too_large = await renderings.get("large", made_of("x" * 11, made))
    assert too_large is not None and len(too_large.body) == 11
    assert (await renderings.get("large", made_of("y", made))) is not None and made[-1] == "y"
