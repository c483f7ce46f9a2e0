"""All topics. A topic that is not declared here does not exist.

`partition_for` is the only rule that maps a key to a partition, so `job-requests` and `jobs` of a pool always have the
same partition number.
"""

import zlib
from dataclasses import dataclass
from typing import get_args

from events.access import AccessRefused
from events.archive import SegmentArchived
from events.contents import ContentClaimed
from events.days import DayClosed
from events.deliveries import DeliveryEvent
from events.envelope import Event
from events.failures import FailureEvent
from events.hosts import HostSampled
from events.jobs import JobFact, JobRequest
from events.notices import NoticePublished
from events.people import PersonEvent
from events.progress import ProgressTicked
from events.settings import SettingEvent
from events.streams import StreamEvent
from events.telemetry import TelemetryReported
from events.videos import VideoEvent
from events.viewers import ViewerForgotten
from events.webhooks import WebhookEvent
from events.workers import WorkerEvent, WorkerHeartbeat

DAY_MS = 24 * 3600 * 1000
FOR_EVER = -1
EVENT_ID = "id"

Partition = tuple[str, int]
"""The name of a topic, without the installation's prefix, and the number of one of its partitions."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A declared topic. `retention_ms` is FOR_EVER or milliseconds; `key` names the payload field used as the key.

    `producers` and `consumers` name programs, processes and projections; a test compares them with the code.
    The key EVENT_ID is not a payload field: each event is a stream of its own, under its envelope's id.
    """

    name: str
    key: str
    description: str
    events: tuple[type[Event], ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 4
    retention_ms: int = FOR_EVER

    @property
    def dead_letters(self) -> str:
        """Name of the topic for records that could not be decoded or folded."""
        return f"{self.name}.dead"


VIDEOS = Topic(
    "videos",
    "video_id",
    "The life of a video: upload, probe, plan, published or failed, edits, archive.",
    get_args(VideoEvent),
    producers=("admin app", "planning", "chores"),
    consumers=(
        *("planning", "announcing", "files", "admin app", "archiver"),
        *("projection catalog", "projection timeline", "projection audit", "projection daily"),
    ),
)
CONTENTS = Topic(
    "contents",
    "sha256",
    "Which upload becomes the video of a content, when several have the same.",
    (ContentClaimed,),
    producers=("admin app",),
    consumers=("projection contents", "archiver"),
    partitions=1,
)
JOB_REQUESTS = Topic(
    "job-requests",
    "pool",
    "What workers, planners and people ask of the dispatcher.",
    get_args(JobRequest),
    producers=("planning", "dispatcher", "workers", "worker app", "admin app"),
    consumers=("dispatcher", "projection audit", "archiver"),
    retention_ms=7 * DAY_MS,
)
JOBS = Topic(
    "jobs",
    "pool",
    "What the dispatcher decided; the only truth about jobs.",
    get_args(JobFact),
    producers=("dispatcher",),
    consumers=(
        *("dispatcher", "planning", "workers", "worker app", "admin app", "archiver"),
        *("projection catalog", "projection jobs", "projection timeline", "projection failures", "projection daily"),
    ),
)
PROGRESS = Topic(
    "progress",
    "job_id",
    "Progress ticks per job and rung, once a second.",
    (ProgressTicked,),
    producers=("workers", "worker app"),
    consumers=("projection progress", "admin app", "archiver"),
    retention_ms=7 * DAY_MS,
)
WORKERS = Topic(
    "workers",
    "worker_id",
    "Workers that came, went and were quarantined; their keys and what was refused to them.",
    tuple(event for event in get_args(WorkerEvent) if event is not WorkerHeartbeat),
    producers=("workers", "dispatcher", "worker app", "admin app", "chores"),
    consumers=("announcing", "projection workers", "projection audit", "worker app", "admin app", "archiver"),
    partitions=1,
)
WORKER_HEARTBEATS = Topic(
    "worker-heartbeats",
    "worker_id",
    "Signs of life of workers.",
    (WorkerHeartbeat,),
    producers=("workers", "worker app"),
    consumers=("projection workers", "admin app", "archiver"),
    partitions=1,
    retention_ms=DAY_MS,
)
HOSTS = Topic(
    "hosts",
    "host",
    "How machines fare: processor, memory, disks, cards; a sample a minute.",
    (HostSampled,),
    producers=("chores", "workers", "worker app"),
    consumers=("projection hosts", "archiver"),
    partitions=1,
    retention_ms=30 * DAY_MS,
)
DAYS = Topic(
    "days",
    "day",
    "Days that were closed: their figures, and the positions that they cover.",
    (DayClosed,),
    producers=("chores", "admin app"),
    consumers=("projection daily", "archiver"),
    partitions=1,
)
FAILURES = Topic(
    "failures",
    "failure_id",
    "What became of failed attempts: resolved by a person, run again.",
    get_args(FailureEvent),
    producers=("admin app", "planning"),
    consumers=("projection failures", "projection audit", "archiver"),
    partitions=1,
)
ACCESS = Topic(
    "access",
    "app",
    "Requests that an app refused for lack of a good secret or of a right.",
    (AccessRefused,),
    producers=("admin app", "public app", "telemetry app"),
    consumers=("projection audit", "archiver"),
    partitions=1,
)
PEOPLE = Topic(
    "people",
    "user_id",
    "People by their ids, their roles, sessions, links and tokens; no names and no secrets.",
    get_args(PersonEvent),
    producers=("admin app",),
    consumers=("admin app", "public app", "projection audit", "archiver"),
    partitions=1,
)
STREAMS = Topic(
    "streams",
    "viewer_id",
    "Streams of viewers: begun, alive, served, ended, failed.",
    get_args(StreamEvent),
    producers=("public app",),
    consumers=("projection streams", "archiver"),
)
VIEWERS = Topic(
    "viewers",
    "viewer_id",
    "Viewers whose keys were deleted, so that nobody can say whose events theirs are.",
    (ViewerForgotten,),
    producers=("admin app",),
    consumers=("projection audit", "archiver"),
    partitions=1,
)
TELEMETRY = Topic(
    "telemetry",
    EVENT_ID,
    "Anonymous reports of nodes about their transcodes.",
    (TelemetryReported,),
    producers=("telemetry app", "kinolog telemetry import"),
    consumers=("projection telemetry", "archiver"),
)
ARCHIVE = Topic(
    "archive",
    "topic",
    "Which stretches of the other topics stand in the object store, with the hash chain that proves them.",
    (SegmentArchived,),
    producers=("archiver",),
    consumers=("archiver",),
    partitions=1,
)

SETTINGS = Topic(
    "settings",
    "name",
    "Settings that were changed while the platform runs, and why.",
    get_args(SettingEvent),
    producers=("admin app",),
    consumers=("every program", "projection audit", "archiver"),
    partitions=1,
)

NOTICES = Topic(
    "notices",
    "subject_id",
    "Events that others may know, in one order: the public catalogue of webhooks.",
    (NoticePublished,),
    producers=("announcing",),
    consumers=("announcing", "deliverer", "projection deliveries", "archiver"),
    partitions=1,
)
WEBHOOKS = Topic(
    "webhooks",
    "endpoint_id",
    "Endpoints outside and the wishes of people about them; addresses and secrets are elsewhere.",
    get_args(WebhookEvent),
    producers=("admin app",),
    consumers=("deliverer", "projection deliveries", "projection audit", "archiver"),
    partitions=1,
)
DELIVERIES = Topic(
    "deliveries",
    "endpoint_id",
    "What became of notices at each endpoint: delivered, failed, given up; breakers.",
    get_args(DeliveryEvent),
    producers=("deliverer",),
    consumers=("deliverer", "projection deliveries", "archiver"),
)

TOPICS = {
    topic.name: topic
    for topic in (
        *(VIDEOS, CONTENTS, JOB_REQUESTS, JOBS, PROGRESS, WORKERS, WORKER_HEARTBEATS, FAILURES, ACCESS, PEOPLE, TELEMETRY, ARCHIVE),
        *(SETTINGS, STREAMS, VIEWERS, HOSTS, DAYS, NOTICES, WEBHOOKS, DELIVERIES),
    )
}
TOPIC_OF = {event.TYPE: topic for topic in TOPICS.values() for event in topic.events}
"""Wire type -> the one topic that may carry it."""


def partition_for(key: str, partitions: int) -> int:
    """Return the partition of a key: CRC-32 of its UTF-8 bytes, modulo."""
    return partition_of(key.encode(), partitions)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of an encoded key."""
    return zlib.crc32(key) % partitions
