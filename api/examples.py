"""Examples in the apps' OpenAPI documents."""

from typing import Any

VIDEO_ID = "01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"
JOB_ID = "5d1f1c8e-3c0b-5d2a-9a43-6f1f0b7c2e10"
WORKER_ID = "019ceb74-9b15-7216-ba9e-d6fd5eb561a4"
JOIN_TOKEN = "Zk3xQ9aBn0c-example-of-a-key-that-opens-not"
SHA256 = "5a" * 32
_PROGRESS = {
    "status": "processing",
    "current_step": "encode",
    "progress_percent": 41.5,
    "qualities": [{"name": "720p", "status": "in_progress", "progress": 38.0}],
    "attempt": 2,
    "max_attempts": 3,
    "started_at": "2026-03-01T12:00:00Z",
    "last_error": "The worker went away.",
}
PROGRESSING: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"example": _PROGRESS}}}}
"""OpenAPI's example of a video's progress."""
