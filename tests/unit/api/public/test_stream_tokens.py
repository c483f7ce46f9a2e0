"""Tokens of streams: as short as CMCD wants, good for a week, and nobody can make one."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from api.public.stream_tokens import LIFE_DAYS, Stream, issue, read, session_of
from api.public.tally import sid_of
from tests.support.footage import id_of

TODAY = datetime(2026, 11, 29, tzinfo=UTC).date()
STREAM = Stream("cYl1Hk7pQ2mXv0ZtR9sWBA", session_of(id_of("session")))
T = TypeVar("T")


async def key_of(day: object) -> bytes:
    return f"key of {day}".encode()


def done(waiting: Awaitable[T]) -> T:
    async def wait() -> T:
        return await waiting

    return asyncio.run(wait())


TOKEN = done(issue(key_of, STREAM, TODAY))


def test_a_token_is_read_for_a_week_and_is_short_enough_for_cmcd() -> None:
    assert len(TOKEN) <= 64
    for days in range(70):
        found = done(read(key_of, TOKEN, TODAY + timedelta(days=days)))
        assert found == (STREAM if days % 64 <= LIFE_DAYS and days < 64 else None), days


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_a_changed_token_is_nobodys(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    assert changed == TOKEN or done(read(key_of, changed, TODAY)) is None


@given(st.text(max_size=80))
def test_any_text_is_nobodys(text: str) -> None:
    assert done(read(key_of, text, TODAY)) is None


def test_cmcd_names_a_session_in_the_address_or_in_a_header() -> None:
    query = b"CMCD=br%3D3200%2Cbs%2Csid%3D%22" + TOKEN.encode() + b"%22"
    assert sid_of({"query_string": query, "headers": []}) == TOKEN
    assert sid_of({"query_string": b"", "headers": [(b"cmcd-session", b'cid="x",sid="' + TOKEN.encode() + b'"')]}) == TOKEN
    for other in (b"", b"CMCD=", b"CMCD=br%3D3200", b"CMCD=sid%3D" + TOKEN.encode(), b"CMCD=xsid%3D%22a%22"):
        assert sid_of({"query_string": other, "headers": []}) is None
