"""A far worker's calls: what is tried again, what is not, and transfers that break off."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import stamina

from api.limits import BODY_BYTES_MAX
from events.errors import EventTooLarge, InvalidEvent, LogUnavailable, ObjectMissing, StoreUnavailable
from events.jobs import JobClaimed, ResultReported
from events.kinds import AnalyseSpec, Capabilities, Source
from events.media import Failure
from infra.runtime.clock import new_id
from producers.results import SEGMENTS_MAX
from tests.support.long_results import long_result
from workers.remote import gateway as module
from workers.remote.gateway import FAULTS_MAX, Gateway, Lost, NotAdmitted, Rejected
from workers.remote.membership import Membership, NoMember
from workers.remote.store import GatewayStore
from workers.remote.transport import HttpTransport
from workers.transport import Held

DATA = bytes(range(256)) * 40
SOURCE = "sources/v/original"
CLAIM = JobClaimed(
    job_id="j",
    video_id="v",
    pool="default",
    worker_id="w",
    claim_id="c",
    epoch=3,
    attempt=1,
    lease_expires_at=datetime(2026, 3, 1, tzinfo=UTC),
    spec=AnalyseSpec(source=Source(object_key=SOURCE, size_bytes=len(DATA))),
)
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Try again without waiting."""
    stamina.set_testing(True, attempts=4)
    yield
    stamina.set_testing(False)


class Server:
    """Answers one request after the other, and keeps what was asked; the last answer stands."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return answer(request)

    def gateway(self) -> Gateway:
        return Gateway(httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://kinolog.example"))


def says(status: int, **body: object) -> Answer:
    return lambda request: httpx.Response(status, json=body)


def breaks(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("cut", request=request)


def pieces(start: int, stop: int, *, cut: bool, status: int = 206) -> Answer:
    async def body() -> AsyncIterator[bytes]:
        yield DATA[start:stop]
        if cut:
            raise httpx.ReadError("cut")

    headers = {"ETag": '"e"'} | ({"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if status == 206 else {})
    return lambda request: httpx.Response(status, content=body(), headers=headers)


def held(server: Server) -> tuple[HttpTransport, GatewayStore, Held]:
    gateway = server.gateway()
    transport = HttpTransport(gateway, pool="default", version="0.1.0", new_id=new_id)
    loop = asyncio.get_running_loop()
    claim = Held(CLAIM, "v", loop.create_future(), loop.create_future())
    transport._held["j"] = claim
    return transport, GatewayStore(gateway, transport), claim


# --- calls ----------------------------------------------------------------------------------------------------------


async def test_what_may_pass_is_tried_again() -> None:
    server = Server(breaks, says(503), says(429), says(200, ok=True))
    assert await server.gateway().call("POST", "/x", {}) == {"ok": True}
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "this key is revoked"}, NotAdmitted),
        (409, {"detail": "stop", "state": "cancelled"}, Lost),
        (403, {"detail": "not yours", "state": "not_yours"}, Lost),
        (404, {"detail": "there is no job"}, Lost),
        (409, {"detail": "another file"}, Rejected),
        (422, {"detail": "wrong"}, Rejected),
        (500, {}, Rejected),
    ],
)
async def test_what_does_not_pass_is_said_once(status: int, body: dict[str, str], error: type[Exception]) -> None:
    server = Server(says(status, **body))
    with pytest.raises(error, match=body.get("detail", "500")):
        await server.gateway().call("POST", "/x", {})
    assert len(server.asked) == 1


async def test_a_server_that_is_away_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_S", 600.0)  # longer than a busy machine takes for this test
    server = Server(breaks)
    gateway = server.gateway()
    for _ in range(4):
        with pytest.raises(LogUnavailable):
            await gateway.call("POST", "/x", {})
    assert len(server.asked) == FAULTS_MAX


async def test_a_claim_keeps_its_name_however_often_it_is_said() -> None:
    server = Server(breaks, breaks, says(200, claim=None, reason="no_job", message=""))
    transport = HttpTransport(server.gateway(), pool="default", version="0.1.0", new_id=new_id)
    assert await transport.claim(Capabilities(kinds=("analyse",)), 1.0) is None
    assert len(server.asked) == 3 and len({request.content for request in server.asked}) == 1


async def test_a_job_that_this_worker_does_not_know_reaches_the_loop() -> None:
    claim = CLAIM.model_dump(mode="json") | {"spec": {"kind": "dance"}}
    server = Server(says(200, claim=claim, reason="claimed", message="", correlation_id="v"))
    transport = HttpTransport(server.gateway(), pool="default", version="0.1.0", new_id=new_id)
    with pytest.raises(InvalidEvent, match="does not know"):
        await transport.claim(Capabilities(kinds=("analyse",)), 1.0)


@pytest.mark.parametrize("state", ["fenced", "cancelled", "not_yours"])
async def test_a_lost_claim_is_noticed_at_any_answer(state: str) -> None:
    transport, store, claim = held(Server(says(409, detail="stop", state=state)))
    await transport.renew(claim)
    assert claim.lost.result() == state
    with pytest.raises(StoreUnavailable):
        await store.put_bytes("videos/v/j/3/result.json", b"{}", "application/json")
    report = ResultReported(job_id="j", pool="default", worker_id="w", epoch=3)
    assert await transport.report(claim, report) == "refused"


@pytest.mark.parametrize(
    ("status", "error"), [(413, EventTooLarge), (422, InvalidEvent)], ids=["too large", "what cannot be written"]
)
async def test_a_report_that_the_app_does_not_take_reaches_the_loop(status: int, error: type[Exception]) -> None:
    transport, _, claim = held(Server(says(status, detail="no")))
    failure = Failure(stage="encoding", category="unknown", code="X", message="It failed.")
    report = ResultReported(job_id="j", pool="default", worker_id="w", epoch=3, failure=failure)
    with pytest.raises(error, match="no"):
        await transport.report(claim, report)


async def test_a_result_with_many_segments_is_sent_in_parts() -> None:
    server = Server(says(200))
    transport, _, claim = held(server)
    report = ResultReported(job_id="j", pool="default", worker_id="w", epoch=3, result=long_result(SEGMENTS_MAX * 2 + 1))
    assert await transport.report(claim, report) == "accepted"
    assert [request.url.path.rpartition("/")[2] for request in server.asked] == ["part", "part", "complete"]
    assert all(len(request.content) < BODY_BYTES_MAX for request in server.asked)


# --- bytes ----------------------------------------------------------------------------------------------------------


async def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    server = Server(pieces(0, 4000, cut=True, status=200), pieces(4000, 9000, cut=True), breaks, pieces(9000, len(DATA), cut=False))
    _, store, _ = held(server)
    assert await store.get_file(SOURCE, tmp_path / "x") == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "x").read_bytes() == DATA
    assert [request.headers.get("range") for request in server.asked] == [None, "bytes=4000-", "bytes=9000-", "bytes=9000-"]
    assert {request.url.path for request in server.asked} == {"/api/worker/source/j"}
    assert {request.url.params["epoch"] for request in server.asked} == {"3"}


async def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    server = Server(pieces(0, 4000, cut=True, status=200), pieces(0, len(DATA), cut=False, status=200))
    _, store, _ = held(server)
    assert await store.get_file(SOURCE, tmp_path / "x") == hashlib.sha256(DATA).hexdigest()


async def test_a_file_is_sent_again_whole_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(DATA)
    server = Server(breaks, says(200, written=False))
    _, store, _ = held(server)
    ref = await store.put_file("videos/v/j/3/720p/00000.m4s", tmp_path / "s", "video/iso.segment")
    assert (ref.size_bytes, ref.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert [request.content for request in server.asked] == [DATA, DATA]
    for request in server.asked:
        assert str(request.url) == "http://kinolog.example/api/worker/upload/j/segment/720p/00000.m4s?epoch=3"
        assert (request.headers["content-length"], request.headers["x-content-sha256"]) == (str(len(DATA)), ref.sha256)
        assert "transfer-encoding" not in request.headers


async def test_what_is_not_there_is_distinguished_from_what_does_not_answer() -> None:
    _, store, _ = held(Server(says(404, detail="NoSuchKey")))
    with pytest.raises(ObjectMissing):
        await store.get_bytes("videos/v/other/1/result.json", 100)
    _, store, _ = held(Server(breaks))
    with pytest.raises(StoreUnavailable):
        await store.get_bytes("videos/v/other/1/result.json", 100)


# --- membership -----------------------------------------------------------------------------------------------------


def test_a_membership_is_for_its_owners_eyes(tmp_path: Path) -> None:
    member = Membership("http://kinolog.example", "w", "secret")
    member.save(tmp_path / "here")
    path = tmp_path / "here" / "membership.json"
    assert Membership.load(tmp_path / "here") == member
    assert path.stat().st_mode & 0o777 == 0o600
    assert "secret" not in repr(member)
    path.chmod(0o644)
    with pytest.raises(NoMember, match="600"):
        Membership.load(tmp_path / "here")
    with pytest.raises(NoMember, match="--join"):
        Membership.load(tmp_path)
