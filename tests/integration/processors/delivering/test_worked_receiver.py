"""The receiver of docs/how-to/webhooks.md, run as it stands there."""

import asyncio
import os
import re
import sys
from pathlib import Path

from events.videos import VideoUploaded
from infra.reference.schemas import ROOT
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from producers.webhooks import Secret, new_secret
from tests.support.engine import free_ports
from tests.support.receiver import delivering
from tests.support.waiting import eventually

PAGE = ROOT / "docs" / "how-to" / "webhooks.md"


def receiver_of(page: str) -> str:
    """Return the program of the page."""
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    return str(program)


async def listens(port: int) -> bool:
    """Return whether somebody listens at a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_the_receiver_of_the_guide_gets_each_message_once(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "receiver.py"
    file.write_text(receiver_of(PAGE.read_text()))
    (port,) = free_ports(1)
    secret = new_secret("standard")
    environment = {**os.environ, "WEBHOOK_SECRET": secret}
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, str(file), str(port), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert receiver.stdout is not None
    try:
        await eventually(lambda: listens(port))
        async with delivering(settings) as running:
            await running.save(f"http://127.0.0.1:{port}/", secrets=(Secret(text=secret),), events=("video.uploaded",))
            for title in ("one", "two"):
                video_id = new_id()
                event = VideoUploaded(video_id=video_id, title=title, filename="h.mp4", object_key="sources/x", size_bytes=1)
                await running.write(event, subject=video_id)
            async with asyncio.timeout(60):
                lines = {(await receiver.stdout.readline()).decode().strip() for _ in range(2)}
        assert lines == {"video.uploaded one", "video.uploaded two"}
    finally:
        receiver.kill()
        await receiver.wait()
