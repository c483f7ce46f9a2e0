"""Nobody else on the machine reads what the platform keeps, nor its secrets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from minio import Minio
from minio.error import S3Error

from infra.local.engine import access, objects, postgres
from infra.local.engine.configs import directories
from infra.runtime.settings import Settings
from tests.support import clips
from tests.support.disks import small_disk
from tests.support.platform import Platform


def open_to_others(folder: Path) -> Iterator[str]:
    """Yield what group or others may read, write or enter, at a folder and below it."""
    for directory, folders, files in os.walk(folder):
        for path in (Path(directory), *(Path(directory, name) for name in (*folders, *files))):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue  # it was a passing one
            if not stat.S_ISLNK(mode) and mode & 0o077:
                yield f"{stat.filemode(mode)} {path}"


async def test_group_and_others_may_read_nothing_that_a_platform_keeps(platform: Platform, local_engine: Settings) -> None:
    video = await platform.ended(await platform.upload(clips.real_clips()["carphone"]))
    assert video["status"] == "ready"
    data = postgres.data_directory(local_engine)
    for folder in (platform.settings.var_dir, local_engine.var_dir, data):
        assert any(folder.iterdir())
        assert list(open_to_others(folder)) == []


def test_no_secret_stands_in_a_command_line(platform: Platform, local_engine: Settings) -> None:
    known = [
        *access.passwords(local_engine).values(),
        objects.secret(local_engine),
        postgres.password(local_engine),
        platform.token,
    ]
    assert all(known)
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        assert not [secret for secret in known if secret and secret in line], process.name()
    logs = directories(local_engine).logs
    for log in [*logs.glob("*.log"), *platform.settings.var_dir.glob("*.log")]:
        text = log.read_text(errors="replace")
        assert not [secret for secret in known if secret and secret in text], log


def test_the_object_store_wants_its_key(engine: Settings, platform: Platform) -> None:
    endpoint = engine.s3_endpoint.removeprefix("http://")
    for key, secret in ((None, None), ("kinolog", "kinolog-local-secret"), ("kinolog", "")):
        with pytest.raises((S3Error, ValueError)):
            list(Minio(endpoint, key, secret, secure=False, region="us-east-1").list_objects(platform.settings.s3_bucket))


def test_a_small_disk_is_as_private_as_what_it_replaces(tmp_path: Path) -> None:
    """Otherwise a folder that it leaves among the engine's makes the first test fail, when that runs later."""
    with small_disk(tmp_path / "objects" / "bucket", "64k") as disk:
        assert list(open_to_others(disk)) == []
    assert list(open_to_others(disk)) == []
