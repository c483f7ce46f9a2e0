"""The real engine on free ports, for tests and benchmarks."""

import itertools
import os
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import supervision
from infra.local.engine import postgres
from infra.runtime.folders import private_file, private_folder
from infra.runtime.settings import Settings

PORTS_EACH = 5_000
_FIRST_PORT = 10_000 + PORTS_EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw3").removeprefix("gw")) % 4)
_ports = itertools.cycle(random.sample(range(_FIRST_PORT, _FIRST_PORT + PORTS_EACH), PORTS_EACH))
"""Each process of a test run has a stretch of its own, below those that the kernel gives to whoever connects."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now, and nobody here was given lately."""
    return list(itertools.islice(filter(_is_free, _ports), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def running_engine(directory: Path, *, keep: bool = False) -> Iterator[Settings]:
    """Start the engine with its data in `directory`; yields its settings.

    Stopped and deleted at the end unless it is to be kept; a kept one is found again by its ports file.
    """
    remembered = directory / "ports"
    ports = list(map(int, remembered.read_text().split())) if remembered.exists() else free_ports(4)
    private_file(private_folder(directory) / remembered.name, " ".join(map(str, ports)))
    kafka, controller, database, objects = ports
    local = Settings(
        var_dir=directory,
        kafka_port=kafka,
        kafka_controller_port=controller,
        postgres_port=database,
        s3_port=objects,
        topic_prefix="engine.",  # whoever has none has rights to everything
        workers=0,
    )
    try:
        supervision.start(local, engine_only=True)
        yield local
    finally:
        if not keep:
            supervision.stop(local)
            shutil.rmtree(postgres.data_directory(local), ignore_errors=True)
            shutil.rmtree(directory, ignore_errors=True)
