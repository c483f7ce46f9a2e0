"""The programs of an installation: command, environment, address and health check of each."""

import json
import shlex
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg

from infra.local.engine import access, configs, objects, postgres
from infra.local.engine.configs import directories
from infra.local.engine.endpoints import resolve
from infra.runtime.folders import PRIVATE_UMASK, private_file, private_folder
from infra.runtime.postgres import url_of
from infra.runtime.settings import NoInstallation, Settings

HEALTH_S = 3.0
WARNINGS_BYTES_MAX = 1 << 16
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Program:
    """One supervised program. `ports` maps the setting's name to the port, on `host`; `health` returns the fault, or None;
    `warnings` returns sentences for a person about a healthy program, by part.

    `prepare` is called before its start, `provide` once it is healthy.
    """

    name: str
    command: list[str]
    ports: dict[str, int]
    health: Callable[[], str | None]
    host: str = "127.0.0.1"
    user: str | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 30
    engine: bool = False
    prepare: Callable[[], object] = field(default=lambda: None)
    provide: Callable[[], object] = field(default=lambda: None)
    warnings: Callable[[], Mapping[str, str]] = dict

    @property
    def command_line(self) -> str:
        """The command as supervisord's configuration wants it."""
        return shlex.join(self.command).replace("%", "%%")


def programs(settings: Settings) -> list[Program]:
    """Return every program of this installation, engine first; without services that the settings name elsewhere."""
    found = []
    if not settings.kafka_bootstrap:
        found.append(_kafka(settings))
    if not settings.postgres_url.get_secret_value():
        found.append(_postgres(settings))
    if not settings.s3_endpoint:
        found.append(_objects(settings))
    found.append(_python("processors", ["processors"], "processors_port", settings.processors_port, settings))
    found.append(_python("dispatcher", ["processors", "dispatcher"], "dispatcher_port", settings.dispatcher_port, settings))
    found.append(_python("public", ["api", "public"], "public_port", settings.public_port, settings))
    found.append(_python("admin", ["api", "admin"], "admin_port", settings.admin_port, settings))
    found.append(_python("worker-app", ["api", "worker"], "worker_port", settings.worker_port, settings))
    found.append(_python("telemetry", ["api", "telemetry"], "telemetry_port", settings.telemetry_port, settings))
    for number in range(1, settings.workers + 1):
        port = settings.worker_metrics_port + number - 1
        found.append(_python(f"worker-{number}", ["workers", str(number)], "worker_metrics_port", port, settings))
    return found


def _kafka(settings: Settings) -> Program:
    where = directories(settings)
    properties, secrets = where.run / "kafka.properties", where.run / "kafka.secrets"

    def prepare() -> None:
        private_folder(where.kafka)
        password = access.ensure_passwords(settings)[access.ENGINE]
        if not (where.kafka / "meta.properties").exists():
            access.note_provided(settings)
            private_file(properties, configs.kafka_properties(settings, where.kafka, password))
            private_file(secrets, configs.kafka_secrets(password))
            try:
                _run(configs.kafka_format_command(properties, uuid.uuid4().hex[:22], secrets))
            finally:
                secrets.unlink()
        provided = access.is_provided(settings)
        private_file(properties, configs.kafka_properties(settings, where.kafka, password, provided=provided))

    return Program(
        "kafka",
        configs.kafka_command(properties),
        {"kafka_port": settings.kafka_port, "kafka_controller_port": settings.kafka_controller_port},
        lambda: _kafka_health(settings),
        engine=True,
        prepare=prepare,
        provide=lambda: access.provide(settings),
    )


def _postgres(settings: Settings) -> Program:
    folder = postgres.binaries()
    data = postgres.data_directory(settings)
    return Program(
        "postgres",
        configs.postgres_command(folder, data, settings),
        {"postgres_port": settings.postgres_port},
        lambda: _postgres_health(settings),
        user=postgres.account(),
        stop_signal="INT",
        engine=True,
        prepare=lambda: postgres.initialise(settings, folder),
    )


def _objects(settings: Settings) -> Program:
    where = directories(settings)
    properties, logback = where.run / "objects.conf", where.run / "logback.xml"

    def prepare() -> None:
        private_folder(where.objects)
        private_file(properties, configs.objects_properties(settings, where.objects, objects.ensure_secret(settings)))
        private_file(logback, configs.LOGBACK)

    port = settings.s3_port
    return Program(
        "objects",
        configs.objects_command(properties, logback),
        {"s3_port": port},
        lambda: http_health(f"http://127.0.0.1:{port}/", refused_is_well=True),
        engine=True,
        prepare=prepare,
    )


def _python(name: str, module: list[str], setting: str, port: int, settings: Settings) -> Program:
    host = settings.local_host
    command = [sys.executable, "-m", *module]
    url = f"http://{host}:{port}/ready"
    return Program(name, command, {setting: port}, lambda: http_health(url), host=host, warnings=lambda: http_warnings(url))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=PRIVATE_UMASK)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")


def _kafka_health(settings: Settings) -> str | None:
    """Ask the broker for its API versions (request 18, version 0): it answers as soon as it serves requests."""
    request = struct.pack(">hhih", 18, 0, 1, 4) + b"kino"
    try:
        with socket.create_connection(("127.0.0.1", settings.kafka_port), HEALTH_S) as connection:
            connection.settimeout(HEALTH_S)
            connection.sendall(struct.pack(">i", len(request)) + request)
            if len(connection.recv(4)) < 4:
                return "does not answer: connection closed"
    except OSError as error:
        return f"does not answer: {type(error).__name__}"
    return None


def _postgres_health(settings: Settings) -> str | None:
    try:
        with psycopg.connect(url_of(resolve(settings)), connect_timeout=int(HEALTH_S)) as connection:
            connection.execute("SELECT 1")
    except NoInstallation:
        return "was never started"
    except psycopg.OperationalError as error:
        return f"does not answer: {str(error).splitlines()[0][:120]}"
    return None


def http_health(url: str, *, refused_is_well: bool = False) -> str | None:
    """Return the fault of a server that should answer at an address; a refusal (4xx) may be a sign of life."""
    try:
        with urlopen(url, timeout=HEALTH_S) as answer:
            answer.read(4096)
    except HTTPError as error:
        return None if refused_is_well else _missing(error.read(4096))
    except OSError as error:
        return f"does not answer: {type(error).__name__}"
    return None


def http_warnings(url: str) -> Mapping[str, str]:
    """Return the warnings of a ready process, by part."""
    try:
        with urlopen(url, timeout=HEALTH_S) as answer:
            found = json.loads(answer.read(WARNINGS_BYTES_MAX)).get("warnings", {})
            return {str(part): str(sentence) for part, sentence in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # `http_health` reports the fault


def _missing(said: bytes) -> str:
    """Return the reason of a process that is not ready, as a sentence: `is not ready: kafka does not answer`."""
    try:
        missing = json.loads(said)["missing"]
        return "is not ready: " + "; ".join(f"{part} {sentence}" for part, sentence in missing.items())
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"is not ready: {said[:300].decode(errors='replace')}"
