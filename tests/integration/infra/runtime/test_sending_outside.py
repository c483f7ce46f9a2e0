"""Connections outside: the address that was checked is the address that is connected to, whatever a name says later."""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

import pytest
from aiohttp import web

from events.errors import InvalidRequest
from infra.runtime.outside import Outside, resolve, retry_after_s
from producers.outside import Network
from tests.support.delivering import NOW
from tests.support.receiver import LOOPBACK, Receiver, receiving

BODY = b"{}"


def resolving(*answers: Sequence[str]) -> Callable[[str, int], object]:
    """Return a resolver that gives one answer after the other, as a name that is bound again does."""
    left = list(answers)

    async def find(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return find


async def sent(receiver: Receiver, host: str, allowed: Sequence[Network], *answers: Sequence[str]) -> str:
    """Return the error of a message to a name."""
    outside = Outside(allowed, 3.0, find=resolving(*answers))  # type: ignore[arg-type]
    try:
        return (await outside.post(f"http://{host}:{receiver.port}/hook", {}, BODY)).error
    finally:
        await outside.close()


async def test_a_name_that_leads_inside_when_it_is_connected_to_is_refused() -> None:
    async with receiving() as receiver:
        outside = Outside((), 3.0, find=resolving(["93.184.216.34"], ["127.0.0.1"]))  # type: ignore[arg-type]
        assert await outside.check_url(f"http://rebinding.example:{receiver.port}/") == f"http://rebinding.example:{receiver.port}"
        answer = await outside.post(f"http://rebinding.example:{receiver.port}/hook", {}, BODY)
        await outside.close()
        assert answer.status is None
        assert "127.0.0.1 is an address of this machine" in answer.error
        assert receiver.got == []


async def test_a_name_with_one_address_inside_is_refused_whole() -> None:
    async with receiving() as receiver:
        assert "::1 is an address" in await sent(receiver, "both.example", (LOOPBACK,), ["127.0.0.1", "::1"])
        assert receiver.got == []


async def test_the_checked_address_is_connected_to_and_the_name_is_not_resolved_again() -> None:
    async with receiving() as receiver:
        assert await sent(receiver, "receiver.example", (LOOPBACK,), ["127.0.0.1"], ["10.255.255.1"]) == ""
        assert receiver.got[0].headers["host"] == f"receiver.example:{receiver.port}"


@pytest.mark.parametrize("spelled", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_spellings_are_refused_at_the_connection_as_well(spelled: str) -> None:
    async with receiving() as receiver:
        outside = Outside((), 3.0)
        answer = await outside.post(f"http://{spelled}:{receiver.port}/hook", {}, BODY)
        await outside.close()
        assert answer.status is None
        assert receiver.got == []


@pytest.mark.parametrize("spelled", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]"])
async def test_the_socket_has_the_last_look(spelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the check of the URL let an address pass."""
    monkeypatch.setattr("infra.runtime.outside.target", lambda url, allowed: None)
    async with receiving() as receiver:
        outside = Outside((), 3.0)
        answer = await outside.post(f"http://{spelled}:{receiver.port}/hook", {}, BODY)
        await outside.close()
        assert answer.status is None
        assert receiver.got == []


async def test_a_name_that_leads_inside_is_refused_when_it_is_saved_and_an_unknown_one_is_not() -> None:
    with pytest.raises(InvalidRequest, match="webhook_networks"):
        await Outside((), 3.0, find=resolving(["10.0.0.1"])).check_url("https://inside.example/")  # type: ignore[arg-type]

    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    assert await Outside((), 3.0, find=nothing).check_url("https://later.example/") == "https://later.example"


async def test_this_machine_resolves_its_own_name() -> None:
    assert set(await resolve("localhost", 80)) <= {"127.0.0.1", "::1"}


async def test_no_more_of_an_answer_is_read_than_its_beginning() -> None:
    async def long(got: object) -> web.Response:
        return web.Response(body=b"x" * 50_000_000)

    async with receiving() as receiver:
        receiver.behave["/hook"] = long
        outside = Outside((ipaddress.ip_network("127.0.0.0/8"),), 3.0)
        answer = await outside.post(receiver.url(), {}, BODY)
        await asyncio.wait_for(outside.close(), 5)
        assert (answer.status, answer.text) == (200, "x" * 2000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("120", 120.0), ("Sun, 15 Mar 2026 12:01:00 GMT", 60.0), ("Sun, 15 Mar 2026 11:00:00 GMT", 0.0)),
        *(("soon", None), ("-5", None), (None, None), ("٣", None)),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, NOW) == seconds
