"""The public app in the test's own process, over the rows and files of one video, for viewers who are logged in or not."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from api.cookies import digest_of
from api.identity import COOKIE, Doors
from events.access import AccessRefused
from events.clock import Context
from events.envelope import Envelope, Event, Recorded
from events.people import Role, SessionOpened, UserCreated
from events.topics import STREAMS
from events.videos import VideoVisibilityChanged, Visibility
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from infra.runtime.viewers import Viewers
from producers.accounts import KeptSession
from projections import catalog
from projections.folding.runner import Batch, Slice, install
from projections.people.directory import Directory
from projections.streams import projection as streams
from tests.support.apps import TOKEN, make
from tests.support.feeding import write
from tests.support.folding import Tables, folded, gather, history
from tests.support.footage import VIDEO_ID, recorded
from tests.support.people import MemoryAccounts
from tests.support.presentation import TYPES, Presentation
from tests.support.serving import served

OF_STREAMS = {event.TYPE for event in STREAMS.events}


@dataclass
class Theatre:
    """One video and its viewers.

    `base` is the app's address, `end` that of the log of videos; `later` moves the app's clock.
    """

    base: str
    slug: str
    pool: Any
    end: int
    later: timedelta = timedelta()
    refused: list[AccessRefused] = field(default_factory=list)
    streams: list[Envelope[Event]] = field(default_factory=list)
    people: Directory = field(default_factory=Directory)
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)

    def context(self) -> Context:
        """Return the app's time and ids."""
        return Context(datetime.now(UTC) + self.later, new_id, "tests")

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        """Keep the app's events about refused requests and about streams."""
        self.refused += [envelope.data for envelope in envelopes if isinstance(envelope.data, AccessRefused)]
        self.streams += [envelope for envelope in envelopes if envelope.data.TYPE in OF_STREAMS]

    def watched(self) -> Tables:
        """Return the tables that the events about streams fold into."""
        return folded(streams.PROJECTION, history(Recorded(STREAMS.name, 0, 0, envelope) for envelope in self.streams))

    def follow(self, event: Event) -> None:
        """Let the app follow an event about people."""
        now = self.context().now
        envelope = Envelope(new_id(), "tests", "people", now, event, new_id())
        self.people.take(Recorded("people", 0, 0, envelope))  # type: ignore[arg-type]

    def login(self, user_id: str, role: Role) -> dict[str, str]:
        """Return the cookies of a person."""
        now, secret = self.context().now, f"secret of {user_id}".replace(" ", "-")
        self.follow(UserCreated(user_id=user_id, role=role))
        self.follow(SessionOpened(session_id=user_id, user_id=user_id, how="password", expires_at=now + timedelta(days=30)))
        self.accounts.sessions[digest_of(secret)] = KeptSession(user_id, user_id, now, now)
        return {COOKIE: secret}

    @asynccontextmanager
    async def viewer(self, user_id: str, role: Role = "viewer") -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client that is logged in."""
        async with httpx.AsyncClient(base_url=self.base, cookies=self.login(user_id, role), timeout=60) as http:
            yield http

    async def happens(self, event: Event) -> Recorded[Event]:
        """Fold an event about the video; return its record."""
        record = recorded(event, self.end, topic="videos", at_s=1000 + self.end)
        part = Slice(record.topic, record.partition, self.end, self.end + 1, 1, None)
        self.end += 1
        async with self.pool.connection() as connection:
            runner = await install(connection, catalog.PROJECTION)
            await runner.apply(connection, Batch((part,), [record], gather(catalog.PROJECTION, [record])))
        return record

    async def show_to(
        self, visibility: Visibility, *, roles: tuple[Role, ...] = (), users: tuple[str, ...] = ()
    ) -> Recorded[Event]:
        """Change who may watch; return the record."""
        return await self.happens(VideoVisibilityChanged(video_id=VIDEO_ID, visibility=visibility, roles=roles, users=users))


@asynccontextmanager
async def theatre(settings: Settings, film: Presentation, **options: Any) -> AsyncIterator[Theatre]:
    """Serve a published film, which is private; `options` are the app's."""
    pool, store = await postgres.open_pool(settings), ObjectStore(settings)
    try:
        await store.ensure_bucket()
        for path in film.store.rglob("*.*"):
            await store.put_bytes(str(path.relative_to(film.store)), path.read_bytes(), TYPES.get(path.suffix, "text/plain"))
        log = film.events()
        found = Theatre("", film.rows()[0].slug, pool, sum(record.topic == "videos" for record in log))
        await Viewers(pool).ensure()
        async with pool.connection() as connection:
            await write(connection, catalog.PROJECTION, log)
        await found.show_to("private")
        doors = Doors(found.people, found.accounts, found.context, TOKEN)
        app = make("public", pool=pool, store=store, append=found.append, doors=doors, context=found.context, **options)
        async with served(app) as server:
            found.base = f"http://127.0.0.1:{server.port}"
            yield found
    finally:
        await pool.close()
