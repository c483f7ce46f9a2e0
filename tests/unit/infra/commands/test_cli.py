"""The command line, against an admin app and an object store that keep state in memory."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
import typer
from hypothesis import given
from hypothesis import strategies as st

from events import errors
from infra.cli import app
from infra.commands.ingest import Bars, Ingestion, named, stage_of
from infra.commands.log import Filter, position_of, topics
from infra.commands.support import exits, output
from infra.commands.support.admin_api import AdminApi, public_url_of, token_of
from infra.commands.support.exits import Away, ExitCode, Refused, UsageFault
from infra.commands.support.files import Settling, collect, shown
from infra.commands.support.uploads import Details, FileChanged, Uploads, digest, parts_of, title_of
from infra.runtime import objects
from infra.runtime.settings import Settings
from tests.support.uploading import MemoryPlatform


class Display:
    """A display that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.counted: dict[str, int] = {}
        self.percents: list[tuple[str, float]] = []

    def stage(self, path: Path, stage: str, **facts: Any) -> None:
        self.stages.append((path.name, stage))

    def bar(self, path: Path, stage: str, total: int) -> Any:
        def count_bytes(count: int) -> None:
            self.counted[stage] = self.counted.get(stage, 0) + count

        return count_bytes

    def percent(self, path: Path, name: str, percent: float) -> None:
        self.percents.append((name, percent))


def ingestion(platform: MemoryPlatform, folder: Path, display: Display) -> Ingestion:
    return Ingestion(
        platform.api, Uploads(platform.api, platform.store, folder / "memory"), display, wait=True, sleep=lambda seconds: None
    )


def film(folder: Path, name: str = "film.mp4", content: bytes = b"0123456789") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Retries follow each other at once."""
    with stamina.set_testing(True, attempts=5):
        yield


@pytest.mark.parametrize("part_bytes", [None, 4])
def test_a_file_is_uploaded_and_followed_to_its_end(part_bytes: int | None, tmp_path: Path) -> None:
    platform, display = MemoryPlatform(part_bytes=part_bytes), Display()
    assert ingestion(platform, tmp_path, display).all([film(tmp_path)], Details(priority="high", visibility="private")) == 0
    assert platform.content("v1") == b"0123456789"
    wanted = {"title": "film", "priority": "high", "visibility": "private"}
    assert {name: platform.videos["v1"][name] for name in wanted} == wanted
    assert display.stages == [("film.mp4", "queued"), ("film.mp4", "published")]
    assert display.counted == {"hashing": 10, "uploading": 10}
    assert not list(tmp_path.glob("memory/*"))


def test_the_same_content_is_reported_and_not_sent_again(tmp_path: Path) -> None:
    platform, display = MemoryPlatform(), Display()
    files = [film(tmp_path), film(tmp_path, "copy.mp4")]
    assert ingestion(platform, tmp_path, display).all(files, Details()) == 0
    assert ("copy.mp4", "known") in display.stages
    assert len(platform.videos) == 1


def test_a_broken_upload_goes_on_where_it_stopped(tmp_path: Path) -> None:
    platform, path = MemoryPlatform(part_bytes=4), film(tmp_path)
    platform.faults = [403]
    with pytest.raises(Away, match="403"):
        ingestion(platform, tmp_path, Display()).all([path], Details())
    sent_before = len(platform.objects)
    assert sent_before < 3
    platform.calls.clear()
    assert ingestion(platform, tmp_path, Display()).all([path], Details()) == 0
    assert "POST /api/uploads" not in platform.calls
    assert platform.content("v1") == b"0123456789"


def test_the_store_may_take_its_time_to_join_many_gigabytes(tmp_path: Path) -> None:
    platform = MemoryPlatform(part_bytes=4)
    assert ingestion(platform, tmp_path, Display()).all([film(tmp_path)], Details()) == 0
    assert platform.patience_s["complete"] > objects.JOIN_S
    assert platform.patience_s["uploads"] <= 30


def test_a_store_that_stumbles_is_asked_again(tmp_path: Path) -> None:
    platform = MemoryPlatform()
    platform.faults = [503, 500]
    assert ingestion(platform, tmp_path, Display()).all([film(tmp_path)], Details()) == 0


def test_a_video_is_followed_through_its_stages_while_the_admin_app_comes_and_goes(tmp_path: Path) -> None:
    platform, display = MemoryPlatform(), Display()
    platform.life = [{"status": "processing"}, {"plan": {"format": "cmaf"}}, {}, {"status": "ready"}]

    stumbles = iter([[404], [503], [], [], []])

    def stumble(seconds: float) -> None:
        platform.admin_faults = next(stumbles)

    uploads = Uploads(platform.api, platform.store, tmp_path / "memory")
    following = Ingestion(platform.api, uploads, display, wait=True, sleep=stumble)
    assert following.all([film(tmp_path)], Details()) == 0
    assert [stage for _, stage in display.stages] == ["queued", "analysing", "encoding", "published"]
    assert ("720p", 40.0) in display.percents


def test_a_video_that_fails_says_why(tmp_path: Path) -> None:
    platform, display = MemoryPlatform(), Display()
    platform.life = [{"status": "failed", "failure": {"code": "NOT_MEDIA", "message": "This is no video."}}]
    assert ingestion(platform, tmp_path, display).all([film(tmp_path)], Details()) == 1
    assert display.stages[-1] == ("film.mp4", "failed")


def test_an_admin_app_that_stays_away_ends_the_wait(tmp_path: Path) -> None:
    platform = MemoryPlatform()
    platform.life = [{"status": "processing"}]

    def go_away(seconds: float) -> None:
        platform.admin_faults = [503]

    uploads = Uploads(platform.api, platform.store, tmp_path / "memory")
    with pytest.raises(Away):
        Ingestion(platform.api, uploads, Display(), wait=True, sleep=go_away).all([film(tmp_path)], Details())


def test_an_empty_file_fails_and_the_next_one_does_not(tmp_path: Path) -> None:
    platform, display = MemoryPlatform(), Display()
    files = [film(tmp_path, "empty.mp4", b""), film(tmp_path)]
    assert ingestion(platform, tmp_path, display).all(files, Details()) == 1
    assert display.stages[0] == ("empty.mp4", "failed")
    assert display.stages[-1] == ("film.mp4", "published")


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(FileChanged):
        digest(_Longer(film(tmp_path)), lambda count: None)


class _Longer(type(Path())):  # type: ignore[misc]
    """A path whose file seems longer than it is."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        real = super().stat(follow_symlinks=follow_symlinks)
        return os.stat_result((*real[:6], real.st_size + 5, *real[7:10]))


@pytest.mark.parametrize(
    ("video", "stage"),
    [
        ({"status": "processing"}, "analysing"),
        ({"status": "processing", "plan": {"format": "cmaf"}}, "encoding"),
        ({"status": "ready"}, "published"),
        ({"status": "failed"}, "failed"),
    ],
)
def test_stages_are_shown_in_a_persons_words(video: dict[str, Any], stage: str) -> None:
    assert stage_of(video) == stage


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({}, "http://127.0.0.1:9000/watch/film-1"),
        ({"KINOLOG_PUBLIC_URL": "https://films.example/"}, "https://films.example/watch/film-1"),
        ({"KINOLOG_ADMIN_URL": "https://admin.example"}, "/watch/film-1"),
    ],
)
def test_a_published_file_is_reported_with_where_it_plays(
    environ: dict[str, str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Bars(public_url_of(Settings.from_env(environ))) as bars:
        bars.stage(Path("film.mp4"), "published", video_id="1", watch_url="/watch/film-1", hls_url="/videos/film-1/master.m3u8")
    assert capsys.readouterr().out == f"film.mp4: plays at {where}\n"


def test_parts_cover_the_file() -> None:
    assert [(part.number, part.offset, part.size_bytes) for part in parts_of(10, 4)] == [(1, 0, 4), (2, 4, 4), (3, 8, 2)]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("my_summer film.mp4", "my summer film"),
        ("...mp4", ".."),
        ("  .mp4", "untitled"),
        ("q\"uote'\n🎬.mov", "q\"uote'�🎬"),
        (os.fsdecode(b"caf\xe9.mp4"), "caf�"),
        ("x" * 300 + ".mp4", "x" * 255),
    ],
)
def test_titles_are_made_of_any_name(name: str, title: str) -> None:
    assert title_of(Path(name)) == title


def test_folders_are_searched_and_named_files_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a" / ".trash").mkdir(parents=True)
    film(tmp_path / "a" / ".trash")
    for name in ("b.MKV", ".hidden.mp4", "notes.txt", "a/c.webm"):
        film(tmp_path, name)
    found = [str(path.relative_to(tmp_path)) for path in collect([tmp_path, tmp_path / "notes.txt", tmp_path / "b.MKV"])]
    assert found == ["b.MKV", "a/c.webm", "notes.txt"]
    with pytest.raises(UsageFault, match="no such file"):
        collect([tmp_path / "gone.mp4"])
    with pytest.raises(UsageFault, match="/dev/null is no file"):
        collect([Path("/dev/null")])
    assert shown(Path("a\x1b[31mb")) == "a�[31mb"


def test_a_watched_file_counts_once_it_stops_growing() -> None:
    path, settling = Path("film.mp4"), Settling(quiet_s=5)
    settling.observe(path, 0, 1, now_s=0)
    assert settling.take_settled(100) == []
    for now_s in range(100, 110, 2):
        settling.observe(path, 10 + now_s, now_s, now_s)
        assert settling.take_settled(now_s) == []
    settling.observe(path, 118, 108, 112)
    assert settling.take_settled(112) == []
    assert settling.take_settled(113) == [path]
    assert settling.take_settled(200) == settling.waiting == []


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (401, Refused),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (422, errors.InvalidRequest),
        (500, errors.KinologError),
        (503, Away),
    ],
)
def test_answers_of_the_admin_app_become_faults_with_its_words(status: int, fault: type[Exception]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"title": "no", "detail": "the reason"})

    api = AdminApi(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://admin"))
    with pytest.raises(fault, match="the reason"):
        api.get("/x")


def test_lists_are_read_page_by_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("cursor", "0"))
        items = [{"n": n} for n in range(start, start + int(request.url.params["limit"]))]
        return httpx.Response(200, json={"items": items, "next": str(start + len(items))})

    api = AdminApi(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://admin"))
    assert [row["n"] for row in api.pages("/x", limit=250)] == list(range(250))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageFault("x"), ExitCode.USAGE),
        (errors.InvalidRequest("x"), ExitCode.USAGE),
        (errors.NotFound("x"), ExitCode.NOT_FOUND),
        (errors.Conflict("x"), ExitCode.REFUSED),
        (errors.LogUnavailable("x"), ExitCode.AWAY),
        (errors.KinologError("x"), ExitCode.FAILED),
        (httpx.ConnectError("x"), ExitCode.AWAY),
        (FileNotFoundError(2, "No such file", "film.mp4"), ExitCode.USAGE),
    ],
)
def test_expected_faults_have_a_code_and_a_sentence(error: Exception, code: ExitCode) -> None:
    explained = exits.explain(error)
    assert explained is not None
    assert explained[0] is code
    assert explained[1]


def test_bugs_keep_their_traceback() -> None:
    assert exits.explain(KeyError("x")) is None
    assert exits.explain(ZeroDivisionError()) is None


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(var_dir=tmp_path)
    with pytest.raises(UsageFault, match="kinolog up"):
        token_of(settings)
    path = tmp_path / "tokens" / "admin"
    path.parent.mkdir()
    path.write_text("secret\n")
    path.chmod(0o644)
    with pytest.raises(UsageFault, match="chmod 600"):
        token_of(settings)
    path.chmod(0o600)
    assert token_of(settings) == "secret"


def test_records_are_filtered_by_type_and_key() -> None:
    event = {"type": "kinolog.job.failed.v1"}
    assert Filter(("job.failed",)).wants(event, b"default")
    assert not Filter(("job.completed",)).wants(event, b"default")
    assert not Filter(subject="v1").wants(event, b"default")
    assert Filter().any


def test_positions_and_topics_are_checked() -> None:
    assert position_of("videos/2/17") == ("videos", 2, 17)
    assert position_of("01926f9c-0000-7000-8000-000000000000") is None
    assert topics(["videos.dead"]) == ["videos.dead"]
    for wrong in ("videos/2", "videos/x/1", "nothing/1/1"):
        with pytest.raises(UsageFault):
            position_of(wrong)


@pytest.mark.parametrize("since", ["yesterday", "0001-01-01", "9999-12-31T23:00-05:00"])
def test_a_time_that_no_log_has_is_refused_before_the_log_is_read(since: str) -> None:
    done = kinolog("events", "dead", "--since", since, KINOLOG_KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("kinolog: --since wants a time")


def test_sizes_and_durations_are_said_for_people() -> None:
    assert [output.size(n) for n in (None, 0, 1023, 1536, 5 * 2**30)] == ["–", "0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [output.duration(n) for n in (None, 0, 61_400, 3_723_000)] == ["–", "0:00", "1:01", "1:02:03"]


def kinolog(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]} | environ,
    )


def test_answers_go_to_standard_output_and_the_rest_does_not(tmp_path: Path) -> None:
    done = kinolog("config", "show", "--json")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert json.loads(done.stdout)["lease_s"] == 60.0
    wrong = kinolog("config", "check", KINOLOG_LEASE_S="-1", KINOLOG_NONSENSE="x")
    assert (wrong.returncode, wrong.stdout) == (ExitCode.USAGE, "")
    assert "KINOLOG_LEASE_S" in wrong.stderr and "KINOLOG_NONSENSE" in wrong.stderr
    away = kinolog("videos", KINOLOG_ADMIN_URL="http://127.0.0.1:9", KINOLOG_ADMIN_TOKEN="x")
    assert (away.returncode, away.stdout) == (ExitCode.AWAY, "")
    assert away.stderr.count("\n") == 1 and "http://127.0.0.1:9" in away.stderr
    assert kinolog("jobs", "retry").returncode == ExitCode.USAGE
    assert kinolog("ingest", str(tmp_path / "gone.mp4")).returncode == ExitCode.USAGE


def test_a_worker_without_a_platform_says_so_in_a_sentence() -> None:
    done = kinolog("worker", KINOLOG_KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kinolog worker: no Kafka answers at 127.0.0.1:1; is the platform up")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; import infra.cli; heavy = {'aiokafka', 'psycopg', 'pydantic', 'rich', 'httpx', 'fastapi', 'watchfiles'}"
        "; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_is_relative_to_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TOML file's folder, or the one where the command was typed; whoever changes directory later keeps it."""
    config = tmp_path / "etc" / "kinolog.toml"
    config.parent.mkdir()
    config.write_text('var_dir = "data"\n')
    monkeypatch.chdir(tmp_path)
    by_file = Settings.from_env({"KINOLOG_CONFIG": "etc/kinolog.toml"})
    by_variable = Settings.from_env({"KINOLOG_CONFIG": "etc/kinolog.toml", "KINOLOG_VAR_DIR": "other"})
    assert by_file.var_dir == tmp_path / "etc" / "data"
    assert by_variable.var_dir == tmp_path / "other"
    assert Settings().var_dir == tmp_path / "var"
    assert by_file.absolute_paths({"KINOLOG_CONFIG": "etc/kinolog.toml"}) == {
        "KINOLOG_VAR_DIR": str(tmp_path / "etc" / "data"),
        "KINOLOG_CONFIG": str(config),
    }


class Terminal(io.StringIO):
    """A standard output that says it is one."""

    def isatty(self) -> bool:
        return True


ROWS = [{"id": "f6c1070f-269c-5077-ada5-69a29a7c5990", "title": "a:x:[red]long" * 20, "why": "because", "note": "n" * 40}]
COLUMNS: output.Columns = {
    "video": lambda row: output.short(row["id"]),
    ":x:[bold]": lambda row: row["title"],
    "why": lambda row: row["why"],
    "note": lambda row: row["note"],
}


def test_a_table_keeps_to_its_terminal_a_row_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    output.table(ROWS, COLUMNS, as_json=False)
    shown = terminal.getvalue().splitlines()
    assert len(shown) == 2
    assert all(len(text.replace("\033[1m", "").replace("\033[0m", "")) <= 60 for text in shown)
    assert "f6c1070f  a:x:[red]long" in shown[1]
    assert ":x:[bold]" in shown[0]


def test_words_of_others_move_no_cursor_and_emoji_stay_whole() -> None:
    assert output.printable("a\x1b[31mb\u202ec\r👩\u200d👧") == "a�[31mb�c�👩\u200d👧"


def test_empty_text_is_not_the_folder_where_one_stands() -> None:
    with pytest.raises(typer.BadParameter, match="empty"):
        named("")
    assert named("film.mp4") == Path("film.mp4")


def test_a_table_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(ROWS, COLUMNS, as_json=False)
    assert ROWS[0]["title"] in capsys.readouterr().out


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.integers(10, 250))
def test_columns_fit_or_the_last_ones_are_left_out(widths: list[int], room: int) -> None:
    fitted = output.fit(widths, room)
    taken = sum(fitted) + 2 * (len(fitted) - 1)
    assert taken <= room or len(fitted) == 1
    assert all(width == natural or width >= output.WIDTH_MIN for width, natural in zip(fitted, widths, strict=False))
    if sum(widths) + 2 * (len(widths) - 1) <= room:
        assert fitted == widths


def test_what_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", Terminal())
    output.table(ROWS, COLUMNS, as_json=False)
    assert "no room for: note" in capsys.readouterr().err


def test_a_folder_with_source_code_gives_its_transport_streams_alone(tmp_path: Path) -> None:
    for name, head in {
        "a.ts": b"G@\x00\x10",
        "b.MTS": b"\x00\x00\x00\x00G",
        "c.ts": b"import type",
        "d.mts": b"",
        "e.mp4": b"import",
    }.items():
        (tmp_path / name).write_bytes(head)
    assert [path.name for path in collect([tmp_path])] == ["a.ts", "b.MTS", "e.mp4"]
    assert collect([tmp_path / "c.ts"]) == [tmp_path / "c.ts"], "a file that is named is taken"


@pytest.mark.parametrize("time", ["2026-11-20T19:00:00.123456+01:00", datetime(2026, 11, 20, 18, 0, 0, 123456, UTC)])
def test_times_are_printed_in_one_way_which_as_of_takes(time: str | datetime) -> None:
    assert output.moment(time) == "2026-11-20T18:00:00Z"
    assert output.moment(time, milliseconds=True) == "2026-11-20T18:00:00.123Z"


def addresses(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_file_that_nobody_waits_for_says_where_it_will_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = MemoryPlatform()
    with Bars("http://here", wait=False) as bars:
        uploads = Uploads(platform.api, platform.store, tmp_path / "memory")
        assert Ingestion(platform.api, uploads, bars, wait=False).all([film(tmp_path)], Details()) == 0
    assert addresses(capsys) == "film.mp4: is queued; it will play at http://here/watch/a-slug\n"


def test_a_known_file_says_where_it_plays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = MemoryPlatform()
    for name in ("film.mp4", "copy.mp4"):
        with Bars("http://here") as bars:
            uploads = Uploads(platform.api, platform.store, tmp_path / "memory")
            following = Ingestion(platform.api, uploads, bars, wait=True, sleep=lambda seconds: None)
            assert following.all([film(tmp_path, name)], Details()) == 0
    assert addresses(capsys).splitlines() == [
        "film.mp4: plays at http://here/watch/a-slug",
        "copy.mp4: is there already, at http://here/watch/a-slug",
    ]


def test_ctrl_c_says_where_it_will_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = MemoryPlatform()
    platform.life = [{"status": "processing"}]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with Bars("http://here") as bars:
        uploads = Uploads(platform.api, platform.store, tmp_path / "memory")
        following = Ingestion(platform.api, uploads, bars, wait=True, sleep=interrupt)
        with pytest.raises(KeyboardInterrupt):
            following.all([film(tmp_path)], Details())
    assert "it will play at http://here/watch/a-slug" in addresses(capsys)


def test_a_completed_upload_is_never_said_to_be_uploading_again(tmp_path: Path) -> None:
    platform, display = MemoryPlatform(), Display()
    platform.life = [{"status": "uploading", "slug": "v1"}, {"status": "ready", "slug": "a-slug"}]
    assert ingestion(platform, tmp_path, display).all([film(tmp_path)], Details()) == 0
    assert [stage for _, stage in display.stages] == ["queued", "published"]


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_the_place_of_a_backup_is_named(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOLOG_VAR_DIR", str(tmp_path))
    with pytest.raises(errors.InvalidRequest, match="the location of a backup is empty"):
        typer.main.get_command(app).main([command, ""], standalone_mode=False)


def test_a_worker_joins_a_url_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KINOLOG_VAR_DIR", str(tmp_path))
    with pytest.raises(UsageFault, match="--join must be a URL, such as http://host:9000"):
        typer.main.get_command(app).main(["worker", "--join", "http://host:port", "--token", "x"], standalone_mode=False)


def test_every_group_shows_examples_of_its_commands() -> None:
    root = typer.main.get_command(app)
    groups = [command for command in root.commands.values() if hasattr(command, "commands")]  # type: ignore[attr-defined]
    assert len(groups) >= 8
    for group in groups:
        shown = list(group.examples())
        assert len(shown) == len(group.commands)
        assert all(example.startswith(f"kinolog {group.name} ") for example in shown)


@pytest.mark.parametrize(
    "command",
    [
        *("sql 'SELECT 1 FROM jobs'", "report catalog", "verify", "projections", "rebuild catalog", "projection flip-back catalog"),
        *("diff catalog --from 2026-01-01 --to 2026-01-02", "replay slowest.sql", "whatif --policy cheaper.py"),
        *("backup copy", "backup s3://backups/kinolog", "restore copy"),
    ],
)
def test_where_nothing_was_ever_started_every_command_says_so(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINOLOG_VAR_DIR", str(tmp_path / "var"))
    monkeypatch.chdir(tmp_path)
    Path("slowest.sql").write_text("SELECT * FROM jobs")
    Path("cheaper.py").write_text("def policy(recorded):\n    return recorded\n")
    with pytest.raises(errors.KinologError, match="there is no installation in"):
        typer.main.get_command(app).main(shlex.split(command), standalone_mode=False)
    assert not Path("copy").exists()
