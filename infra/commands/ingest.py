"""`kinolog ingest`: upload files, wait, and say where they play. Through the admin API, thus from any machine."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import typer

from events.errors import KinologError, NotFound, Retryable
from infra.commands.support.admin_api import AdminApi, connected, public_url_of, resource
from infra.commands.support.exits import ExitCode, UsageFault, explain
from infra.commands.support.files import collect, shown, watch
from infra.commands.support.output import AsJson, document, line, note
from infra.commands.support.uploads import Details, OnProgress, Uploads, digest

POLL_S = 1.0
POLLED_AT_ONCE = 4
REFUSALS_MAX = 60
"""Unanswered polls in a row, one a second, before the command stops waiting for a video."""
ENDED = frozenset({"published", "failed", "abandoned", "purged"})


class Display(Protocol):
    """Shows the progress of files to a person or a program."""

    def stage(self, path: Path, stage: str, **facts: Any) -> None:
        """Show that the file reached a stage: hashing, known, uploading, queued … published, failed."""

    def bar(self, path: Path, stage: str, total: int) -> OnProgress:
        """Show a bar up to `total` bytes; return its callback."""

    def percent(self, path: Path, name: str, percent: float) -> None:
        """Show the percentage of a part of the file: the job's step, or a rung."""


def named(text: str) -> Path:
    """Return the named path. Raises UsageFault for empty text, as of an unset variable: it is not the working directory."""
    if not text:
        raise typer.BadParameter("it is empty; name a file or a folder")
    return Path(text)


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR…", parser=named, help="Files, or folders of media files.")],
    watching: Annotated[bool, typer.Option("--watch", help="Go on with files that appear in the folders.")] = False,
    quiet_s: Annotated[
        float, typer.Option("--quiet", min=0.5, help="Seconds without a change after which a watched file is complete.")
    ] = 5.0,
    title: Annotated[str | None, typer.Option(help="Title of the one file; else made of its name.")] = None,
    priority: Annotated[Literal["high", "normal", "low"], typer.Option(help="Goes before or after other videos.")] = "normal",
    visibility: Annotated[
        Literal["public", "unlisted", "private"] | None, typer.Option(help="Who may watch; else the setting upload_visibility.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until published or failed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Upload files, follow them through the queue and the encoders, and print where they play.

    A file whose content (SHA-256) the platform already has is named and not uploaded again. A broken upload resumes
    where it stopped. Ctrl-C ends the wait, not the work. With --json, one line for each stage of each file.

    \b
    Examples:
      kinolog ingest holiday.mp4 --title "Summer 2026"
      kinolog ingest ~/Videos --priority low --visibility private --no-wait
      kinolog ingest /srv/inbox --watch --json
    """
    if title is not None and (len(paths) != 1 or paths[0].is_dir() or watching):
        raise UsageFault("--title is for one file")
    folders = [path for path in paths if path.is_dir()]
    if watching and not folders:
        raise UsageFault("--watch wants a folder")
    files = collect(paths)
    if not files and not watching:
        raise UsageFault("there is no media file in these folders")
    details = Details(title, priority, visibility)
    with ExitStack() as stack:
        ingestion = _opened(stack, wait=wait, as_json=as_json)
        failed = ingestion.all(files, details)
        if watching:
            note(f"watching {', '.join(map(shown, folders))}; Ctrl-C ends it")
            failed += ingestion.all(watch(folders, quiet_s, files), details)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def _opened(stack: ExitStack, *, wait: bool, as_json: bool) -> "Ingestion":
    """Connect to the admin app and the store."""
    import httpx

    from infra.runtime.settings import Settings

    settings = Settings.from_env(os.environ)
    api = stack.enter_context(connected(settings))
    store = stack.enter_context(httpx.Client(trust_env=False))
    display: Display = JsonLines() if as_json else stack.enter_context(Bars(public_url_of(settings), wait=wait))
    return Ingestion(api, Uploads(api, store, settings.var_dir / "uploads"), display, wait=wait)


class Ingestion:
    """Ingests files one after the other."""

    def __init__(
        self,
        api: AdminApi,
        uploads: Uploads,
        display: Display,
        *,
        wait: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = api
        self._uploads = uploads
        self._display = display
        self._wait = wait
        self._sleep = sleep
        self._sent: dict[str, dict[str, Any]] = {}

    def all(self, files: Iterable[Path | None], details: Details) -> int:
        """Ingest each file; return the number of failures. One bad file does not stop the next.

        Uploads go one after the other; videos already uploaded are followed meanwhile. None among the files is a pause.
        """
        pending: deque[_Following] = deque()
        try:
            return self._all(files, details, pending)
        except KeyboardInterrupt:
            for following in pending:
                self._display.stage(following.path, "left", **following.facts)
            raise

    def _all(self, files: Iterable[Path | None], details: Details, pending: "deque[_Following]") -> int:
        failed = 0
        for path in files:
            try:
                if path is not None and (facts := self._send(path, details)) and self._wait:
                    pending.append(_Following(path, facts))
            except (KinologError, OSError) as error:
                if isinstance(error, Retryable) or path is None:
                    raise
                explained = explain(error)
                self._display.stage(path, "failed", message=explained[1] if explained else str(error))
                failed += 1
            failed += self._look_after(pending)
        while pending:
            self._sleep(POLL_S)
            failed += self._look_after(pending)
        return failed

    def _look_after(self, pending: "deque[_Following]") -> int:
        """Poll the next few videos in turn; remove those that ended, and return the number of failures."""
        failed = 0
        for _ in range(min(POLLED_AT_ONCE, len(pending))):
            following = pending.popleft()
            self._ask(following)
            if following.stage in ENDED:
                failed += following.stage != "published"
            else:
                pending.append(following)
        return failed

    def _send(self, path: Path, details: Details) -> dict[str, Any] | None:
        """Upload one file; return its video, None when the platform already had its content."""
        size_bytes = path.stat().st_size
        if size_bytes == 0:
            raise UsageFault("the file is empty")
        sha256 = digest(path, self._display.bar(path, "hashing", size_bytes))
        known = self._sent.get(sha256) or next(iter(self._api.get("/api/videos", sha256=sha256, limit=1)["items"]), None)
        if known:
            self._display.stage(path, "known", **_address(known))
            return None
        sent = self._uploads.send(path, sha256, details, self._display.bar(path, "uploading", size_bytes))
        facts = self._sent[sha256] = _address(sent)
        self._display.stage(path, "queued", **facts)
        return facts

    def _ask(self, following: "_Following") -> None:
        """Show the progress of a video. Raises Away when the admin app was away for too long."""
        path, video_id = following.path, following.facts["video_id"]
        try:
            video = self._api.get(resource("videos", video_id))
            stage = stage_of(video)
            rungs = self._api.get(resource("videos", video_id, "progress"))["qualities"] if stage == "encoding" else ()
        except (Retryable, NotFound):  # not found: the catalog has not read its events yet
            following.refusals += 1
            if following.refusals > REFUSALS_MAX:
                raise
            return
        following.refusals = 0
        if stage == "uploading":
            return  # the catalog has not read yet that the upload is complete
        if stage != following.stage:
            following.stage = stage
            self._display.stage(path, stage, **(following.facts | _facts(video)))
        for rung in rungs:
            self._display.percent(path, rung["name"], rung["progress"])


@dataclass(slots=True)
class _Following:
    """A video that the command waits for."""

    path: Path
    facts: dict[str, Any]
    stage: str = "queued"
    refusals: int = 0


def _address(video: dict[str, Any]) -> dict[str, Any]:
    """Return id and address of a video, which are known from the upload on."""
    return {"video_id": video["video_id"], "slug": video["slug"], "watch_url": f"/watch/{video['slug']}"}


def stage_of(video: dict[str, Any]) -> str:
    """Return the video's stage, in words for a person who waits."""
    match video["status"]:
        case "processing":
            return "encoding" if video.get("plan") else "analysing"
        case "ready":
            return "published"
        case status:
            return str(status)


def _facts(video: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a video to print at a stage."""
    failure = video.get("failure") or {}
    names = ("video_id", "slug", "watch_url", "hls_url", "dash_url", "rungs")
    facts = {name: video[name] for name in names if video.get(name)}
    return facts | ({"message": failure["message"], "code": failure.get("code")} if failure else {})


class JsonLines:
    """One JSON document per stage on standard output; percentages are left to the stages."""

    def stage(self, path: Path, stage: str, **facts: Any) -> None:
        """Print the stage."""
        document({"file": shown(path), "stage": stage} | facts)

    def bar(self, path: Path, stage: str, total: int) -> OnProgress:
        """Print the beginning; count silently."""
        document({"file": shown(path), "stage": stage, "size_bytes": total})
        return lambda count: None

    def percent(self, path: Path, name: str, percent: float) -> None:
        """Print nothing."""


class Bars:
    """Progress bars on standard error; final lines with addresses on standard output."""

    def __init__(self, public_url: str, *, wait: bool = True) -> None:
        self._public_url = public_url
        self._answers = {"published", "known", "left"} if wait else {"published", "known", "queued"}

    def __enter__(self) -> "Bars":
        import sys

        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        self._tasks: dict[tuple[Path, str], Any] = {}
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def stage(self, path: Path, stage: str, **facts: Any) -> None:
        """Print one line; remove the file's bar."""
        for key in [key for key in self._tasks if key[0] == path]:
            self._progress.remove_task(self._tasks.pop(key))
        said = {
            "queued": "is queued; it will play at {public_url}{watch_url}",
            "known": "is there already, at {public_url}{watch_url}",
            "left": "goes on without this command; it will play at {public_url}{watch_url}",
            "published": "plays at {public_url}{watch_url}",
            "failed": "failed: {message}",
        }.get(stage, stage)
        words = said.format(**{"message": "", "public_url": self._public_url} | facts)
        (line if stage in self._answers else note)(f"{shown(Path(path.name))}: {words}")

    def bar(self, path: Path, stage: str, total: int) -> OnProgress:
        """Show a bar that counts bytes."""
        task = self._progress.add_task(f"{shown(Path(path.name))}  {stage}", total=total)
        self._tasks[path, stage] = task
        return lambda count: self._progress.advance(task, count)

    def percent(self, path: Path, name: str, percent: float) -> None:
        """Show or move the bar of a rung."""
        if (path, name) not in self._tasks:
            description = f"{shown(Path(path.name))}  {name}"
            self._tasks[path, name] = self._progress.add_task(description, total=100)
        self._progress.update(self._tasks[path, name], completed=percent)
