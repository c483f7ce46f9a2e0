"""The standards' own parsers and validators (`tests/tools`, fetched by `make tools`), called from tests."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1] / "tools"
AXE = TOOLS / "node_modules" / "axe-core" / "axe.min.js"


def read(tool: str, *arguments: str, given: str = "") -> Any:
    """Return the findings of a tool of `read.mjs`; `given` is its input. Raises AssertionError with its words when it breaks."""
    assert (TOOLS / "node_modules").is_dir(), "run: make tools"
    done = subprocess.run(
        ["node", str(TOOLS / "read.mjs"), tool, *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def playlist(text: str) -> dict[str, Any]:
    """Return an HLS playlist as m3u8-parser sees it; `warnings` are its words about faults."""
    found: dict[str, Any] = read("m3u8", given=text)
    return found


def manifest(text: str, address: str) -> dict[str, Any]:
    """Return a DASH manifest as mpd-parser sees it, addresses resolved against its own; `warnings` are its words about faults."""
    found: dict[str, Any] = read("mpd", address, given=text)
    return found


def subtitles(text: str) -> dict[str, Any]:
    """Return the cues of a WebVTT file as the working group's validator sees them; `errors` are its words about faults."""
    found: dict[str, Any] = read("webvtt", given=text)
    return found


def webhooks(messages: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return the faults that the JavaScript verifier of Standard Webhooks finds in messages: secret, body and headers of each."""
    found: list[str | None] = read("webhooks", given=json.dumps(messages))
    return found


def promtool(*arguments: str, given: str = "") -> str:
    """Return the words of promtool. Raises AssertionError with them when it finds a fault."""
    assert (TOOLS / "bin" / "promtool").exists(), "run: make tools"
    done = subprocess.run(
        [str(TOOLS / "bin" / "promtool"), *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
