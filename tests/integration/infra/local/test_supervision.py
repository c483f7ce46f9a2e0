"""Starting, stopping and what may go wrong with it: supervisord itself, over small programs and over the real engine."""

import asyncio
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.local import supervision
from infra.local.engine import postgres
from infra.local.engine.endpoints import resolve
from infra.local.programs import ROOT, Program, http_health
from infra.runtime.settings import Settings
from infra.runtime.tokens import admin_token_path, ensure_admin_token
from tests.support.engine import free_ports
from tests.support.platform import Platform, environment

SERVER = "import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"


def server(name: str, port: int) -> Program:
    """Return a program that answers HTTP on a port."""
    return Program(
        name,
        [sys.executable, "-c", SERVER.format(port=port)],
        {f"{name}_port": port},
        lambda: http_health(f"http://127.0.0.1:{port}/"),
    )


def script(name: str, code: str, health: Callable[[], str | None] = lambda: "does not answer", **ports: int) -> Program:
    """Return a program that runs some Python; supervisord's configuration wants it on one line."""
    return Program(name, [sys.executable, "-c", f"exec({code!r})"], ports, health)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Settings]:
    """An installation with nothing in it yet; stopped at the end."""
    settings = Settings(var_dir=tmp_path / "var")
    yield settings
    supervision.stop(settings)


@pytest.fixture
def consists_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes an installation consist of other programs than the platform's."""
    return lambda *programs: monkeypatch.setattr(supervision, "programs", lambda settings: list(programs))


def pids(settings: Settings) -> dict[str, int]:
    """Return the process ids of what runs: `start` has seen that it is ready, a busy machine may not answer soon once more."""
    return {row["name"]: row["pid"] for row in supervision.status(settings) if row["state"] == "running"}


def supervisor(settings: Settings) -> psutil.Process:
    """Return supervisord's process."""
    return psutil.Process(int((settings.var_dir / "run" / "supervisord.pid").read_text()))


def marked(settings: Settings) -> list[int]:
    """Return every living process of the installation."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(supervision.MARK) == str(settings.var_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue  # it has just ended
    return found


def test_starting_again_changes_nothing_and_starts_what_is_missing(
    installation: Settings, consists_of: Callable[..., None]
) -> None:
    one, two = (server(name, port) for name, port in zip(("one", "two"), free_ports(2), strict=True))
    consists_of(one, two)
    supervision.start(installation)
    first = pids(installation)
    supervision.start(installation)
    assert pids(installation) == first
    assert set(first) == {"one", "two"}

    with supervision._connected(installation) as connected:
        assert connected is not None
        connected.supervisor.stopProcess("two")
    supervision.start(installation)
    again = pids(installation)
    assert again["one"] == first["one"]
    assert again["two"] != first["two"]

    supervision.stop(installation)
    supervision.stop(installation)
    assert not marked(installation)


def test_a_folder_of_any_depth_will_do(tmp_path: Path, consists_of: Callable[..., None]) -> None:
    """A Unix socket's path has at most 107 bytes."""
    deep = Settings(var_dir=tmp_path / ("a folder with a long name" * 8) / "and 100 % more of it" / "var")
    consists_of(server("one", *free_ports(1)))
    supervision.start(deep)
    try:
        assert set(pids(deep)) == {"one"}
    finally:
        supervision.stop(deep)
    assert not marked(deep)


def test_what_is_killed_is_started_again(installation: Settings, consists_of: Callable[..., None]) -> None:
    consists_of(server("one", *free_ports(1)))
    supervision.start(installation)
    before = pids(installation)["one"]
    os.kill(before, signal.SIGKILL)

    def comes_back() -> bool:
        (row,) = supervision.status(installation)
        return bool(row["ready"]) and row["pid"] != before

    assert supervision._until(comes_back, 60)


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started(
    installation: Settings, consists_of: Callable[..., None]
) -> None:
    free, taken = free_ports(2)
    consists_of(server("one", free), server("two", taken))
    with closing(socket.create_server(("127.0.0.1", taken))), pytest.raises(supervision.PortTaken) as caught:
        supervision.start(installation)
    sentence = str(caught.value)
    assert f"two cannot have port {taken}" in sentence
    assert f"process {os.getpid()}" in sentence
    assert "KINOLOG_TWO_PORT" in sentence
    assert not marked(installation)


def test_an_address_that_this_machine_does_not_have_is_named(installation: Settings, consists_of: Callable[..., None]) -> None:
    (port,) = free_ports(1)
    consists_of(replace(server("one", port), host="192.0.2.1"))
    with pytest.raises(supervision.StartFailed, match=rf"one cannot listen at 192\.0\.2\.1:{port}"):
        supervision.start(installation)
    assert not marked(installation)


def test_a_crash_loop_is_reported_at_once_with_the_last_words_and_nothing_is_left(
    installation: Settings, consists_of: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "READY_S", 600.0)  # who waited for that would be longer than a test may take
    broken = script("broken", "raise SystemExit('the table videos does not exist')")
    consists_of(server("one", *free_ports(1)), broken)
    with pytest.raises(
        supervision.StartFailed, match=r"(?s)broken ends as soon as it is started.*the table videos does not exist"
    ) as caught:
        supervision.start(installation)
    assert str(installation.var_dir / "log" / "broken.log") in str(caught.value)
    assert not marked(installation)


def test_who_crashes_once_gets_another_chance(installation: Settings, consists_of: Callable[..., None], tmp_path: Path) -> None:
    mark, (port,) = tmp_path / "tried", free_ports(1)
    code = f"import pathlib; m = pathlib.Path({str(mark)!r}); seen = m.exists(); m.touch()\nif not seen: raise SystemExit(1)\n"
    consists_of(script("late", code + SERVER.format(port=port), lambda: http_health(f"http://127.0.0.1:{port}/"), late_port=port))
    supervision.start(installation)
    assert set(pids(installation)) == {"late"}


def test_who_is_never_ready_is_reported_with_its_last_words(
    installation: Settings, consists_of: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "READY_S", 8.0)  # for supervisord it runs after a second or two, and it has to say something
    consists_of(script("deaf", "import time; print('waiting for godot', flush=True); time.sleep(600)"))
    with pytest.raises(supervision.StartFailed, match=r"(?s)deaf does not answer after 8 s.*waiting for godot"):
        supervision.start(installation)
    assert not marked(installation)


def test_logs_are_bounded(
    installation: Settings, consists_of: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervision, "LOG_BYTES", 2**16)
    monkeypatch.setattr(supervision, "READY_S", 200.0)
    done = tmp_path / "done"
    code = (
        f"import pathlib, time\nfor n in range(40_000): print('line', n, 'x' * 50, flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch(); time.sleep(600)"
    )
    consists_of(script("chatty", code, lambda: None if done.exists() else "is still talking"))
    supervision.start(installation)
    supervision.stop(installation)
    logs = list((installation.var_dir / "log").glob("chatty.log*"))
    written = [path.stat().st_size for path in logs]
    assert len(written) == supervision.LOG_BACKUPS + 1
    assert sum(written) <= (supervision.LOG_BACKUPS + 1) * (2**16 + 2**17)  # supervisord looks after each read, of 128 KiB at most
    assert any("line 39999" in path.read_text() for path in logs), "the newest may have begun just after it"


# --- the real engine ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An engine that these tests may break; its data are deleted at the end."""
    names = ("kafka_port", "kafka_controller_port", "postgres_port", "s3_port")
    var_dir = tmp_path_factory.mktemp("breakable") / "var"
    settings = Settings(var_dir=var_dir, workers=0, **dict(zip(names, free_ports(4), strict=True)))
    yield settings
    supervision.reset(settings)


@pytest.fixture
def engine_of_its_own(breakable: Settings) -> Settings:
    """That engine, running, whatever the test before did."""
    supervision.start(breakable, engine_only=True)
    return breakable


def test_orphans_of_a_killed_supervisord_are_ended_and_the_data_is_there_again(engine_of_its_own: Settings) -> None:
    settings = engine_of_its_own
    before = pids(settings)
    with psycopg.connect(resolve(settings).postgres_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    killed = supervisor(settings)
    killed.kill()
    psutil.wait_procs([killed], timeout=10)
    assert set(before.values()) <= set(marked(settings))

    supervision.start(settings, engine_only=True)

    after = pids(settings)
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert not set(before.values()) & set(marked(settings))
    with psycopg.connect(resolve(settings).postgres_url.get_secret_value()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


async def test_while_the_broker_is_away_apps_say_what_they_can_do_and_logs_stay_short(engine_of_its_own: Settings) -> None:
    async with Platform(resolve(engine_of_its_own)) as platform:
        with supervision._connected(engine_of_its_own) as connected:
            assert connected is not None
            connected.supervisor.stopProcess("kafka")
        for _ in range(40):  # a while: clients ask for the broker again and again
            ready = await platform.admin.get("/ready")
            assert (ready.status_code, ready.json()["can"]) == (503, {"read": True, "write": False})
            assert "kafka" in ready.json()["missing"]
            assert (await platform.public.get("/ready")).json() == {"status": "ready", "can": {"read": True}, "missing": {}}
            assert (await platform.worker.get("/ready")).json()["can"] == {"read": True, "write": False}
            assert (await platform.admin.get("/api/videos")).status_code == 200
            await asyncio.sleep(0.1)
        await asyncio.to_thread(supervision.start, engine_of_its_own, engine_only=True)
        await platform.recovered()
        assert (await platform.admin.get("/ready")).json()["can"] == {"read": True, "write": True}
    for name in platform.names:
        lines = [json.loads(line) for line in platform.log(name).splitlines()]
        loud = [line for line in lines if line["level"] in ("warning", "error", "critical")]
        assert len(loud) < 60, f"{name} wrote {len(loud)} warnings and errors"


def test_orphans_are_ended_by_stop_too(installation: Settings, consists_of: Callable[..., None]) -> None:
    consists_of(server("one", *free_ports(1)))
    supervision.start(installation)
    killed = supervisor(installation)
    killed.kill()
    psutil.wait_procs([killed], timeout=10)
    assert marked(installation)
    supervision.stop(installation)
    assert not marked(installation)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kinolog(settings: Settings, *words: str, answer: str | None = None, cwd: Path = ROOT) -> tuple[int, str]:
    """Run the command, at a terminal when there is an answer to be typed; return exit code and what it said."""
    command = [sys.executable, "-m", "infra.cli", *words]
    environ = environment(settings) | {"PYTHONPATH": str(ROOT)}
    terminal, theirs = pty.openpty() if answer is not None else (None, subprocess.DEVNULL)
    if terminal is not None:
        os.write(terminal, f"{answer}\n".encode())
    done = subprocess.run(command, cwd=cwd, env=environ, stdin=theirs, capture_output=True, text=True, check=False)
    if terminal is not None:
        os.close(terminal)
        os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_who_looks_in_the_wrong_folder_gets_a_sentence(engine_of_its_own: Settings, tmp_path: Path) -> None:
    elsewhere = engine_of_its_own.model_copy(update={"var_dir": tmp_path / "var"})
    code, said = kinolog(elsewhere, "projections")
    assert code != 0 and f"no installation in {elsewhere.var_dir}" in said
    assert not elsewhere.var_dir.exists()


def test_a_database_whose_password_is_gone_is_not_waited_for(engine_of_its_own: Settings) -> None:
    """As when somebody deletes var/ to begin anew: run by root, the database lies elsewhere and is still there."""
    settings = engine_of_its_own
    supervision.stop(settings)
    password = settings.var_dir / "run" / "postgres.password"
    kept = password.read_text()
    password.unlink()

    code, said = kinolog(settings, "engine", "start")

    assert code == 1 and str(postgres.data_directory(settings)) in said and "kinolog engine reset" in said
    assert not password.exists()
    password.touch(mode=0o600)
    password.write_text(kept)
    supervision.start(settings, engine_only=True)


def test_reset_asks_first(engine_of_its_own: Settings) -> None:
    settings = engine_of_its_own
    data = [settings.var_dir / "kafka", settings.var_dir / "objects", postgres.data_directory(settings)]
    before = pids(settings)

    assert kinolog(settings, "engine", "reset")[0] == 2
    code, said = kinolog(settings, "engine", "reset", answer="n")
    assert code != 0
    assert str(settings.var_dir) in said
    assert pids(settings) == before
    assert all(path.is_dir() for path in data)

    assert kinolog(settings, "engine", "reset", answer="y")[0] == 0
    assert not pids(settings)
    assert not marked(settings)
    assert not any(path.exists() for path in data)
    assert kinolog(settings, "engine", "reset", "--yes")[0] == 0


def test_nobody_else_may_look_into_what_is_kept(engine_of_its_own: Settings) -> None:
    settings = engine_of_its_own
    assert all(mode(settings.var_dir / name) == 0o700 for name in ("kafka", "objects", "run", "log"))
    assert mode(postgres.data_directory(settings)) == 0o700
    assert mode(settings.var_dir / "run" / "postgres.password") == 0o600
    assert mode(settings.var_dir / "run" / "objects.conf") == 0o600
    ensure_admin_token(settings)
    assert mode(admin_token_path(settings)) == 0o600
    assert mode(admin_token_path(settings).parent) == 0o700


def test_the_whole_platform_by_the_command_line_from_any_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`up --detach` is given a relative folder; its processes run elsewhere and use it, and listen where they should."""
    tmp_path = tmp_path_factory.mktemp("up")  # a short name: the path of supervisord's socket has at most 107 bytes
    kafka, controller, database, objects, *rest = free_ports(12)
    names = (
        *("public_port", "admin_port", "worker_port", "telemetry_port"),
        *("processors_port", "dispatcher_port", "worker_metrics_port"),
    )
    settings = Settings(
        var_dir=tmp_path / "here" / "var",
        bind_host="127.0.0.2",
        kafka_port=kafka,
        kafka_controller_port=controller,
        postgres_port=database,
        s3_port=objects,
        **dict(zip(names, rest, strict=False)),
    )
    (tmp_path / "here").mkdir()
    relative = settings.model_copy(update={"var_dir": Path("var")})
    try:
        code, said = kinolog(relative, "up", "--detach", "--json", cwd=tmp_path / "here")
        assert code == 0, said
        engine, apps = ["kafka", "postgres", "objects"], ["public", "admin", "worker-app", "telemetry"]
        listed = [row["name"] for row in json.loads(said.splitlines()[0])]
        assert listed == [*engine, "processors", "dispatcher", *apps, "worker-1"]
        # all are ready, even if a busy machine does not let each of them say so at once
        assert supervision._until(lambda: kinolog(relative, "status", cwd=tmp_path / "here")[0] == 0, 60)
        assert kinolog(relative, "videos", cwd=tmp_path / "here")[0] == 0
        code, said = kinolog(relative, "status", cwd=tmp_path)
        assert code == 3
        assert f"nothing runs in {tmp_path / 'var'}" in said
        assert (settings.var_dir / "work").is_dir()
        assert mode(settings.var_dir / "work") == 0o700
    finally:
        supervision.reset(settings)
    assert not marked(settings)
