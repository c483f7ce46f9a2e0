"""Keeps the programs running: supervisord starts them, restarts them when they die, bounds their logs.

`start` is idempotent; when it fails, it ends the programs that it started. `stop` ends everything in order (platform first, then
the engine). Everything lies in `var/run` and `var/log`, except a socket whose path would be too long there. After supervisord
itself was killed, `start` first ends its orphans, known by a mark in their environment.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from events.errors import KinologError
from infra.local.engine.configs import directories
from infra.local.programs import ROOT, Program, programs
from infra.runtime.folders import PRIVATE_UMASK, private_file, private_folder, socket_path
from infra.runtime.settings import Settings
from infra.runtime.tokens import ensure_admin_token

MARK = "SUPERVISED_BY_KINOLOG"
READY_S = 60.0
STOP_S = 60.0
ANSWERS_S = 30.0
LOG_BYTES = 5 * 2**20
LOG_BACKUPS = 2
CRASHES_MAX = 3
"""Exits during start-up that count as a crash loop; a single exit may be due to a service that was not up yet."""
TAIL_BYTES = 1500


class StartFailed(KinologError):
    """The platform could not be started."""


class PortTaken(StartFailed):
    """A port that a program needs is used by another process."""


def start(settings: Settings, *, engine_only: bool = False) -> None:
    """Start the programs that do not run and wait until they are ready. Raises PortTaken or StartFailed with advice."""
    every = programs(settings)
    wanted = [program for program in every if program.engine or not engine_only]
    if not engine_only:
        ensure_admin_token(settings)
    with _connected(settings) as server:
        if server is not None:
            _start_programs(settings, server, wanted)
            return
    _end_orphans(settings)
    _check_ports(wanted)
    _launch(settings, every)
    try:
        with _connected(settings) as server:
            _start_programs(settings, server, wanted)
    except BaseException:
        stop(settings)
        raise


def _start_programs(settings: Settings, server: Any, wanted: list[Program]) -> None:
    """Start the engine, wait for it, then the platform."""
    running = {info["name"] for info in _infos(server) if info["statename"] in ("RUNNING", "STARTING")}
    missing = [program for program in wanted if program.name not in running]
    _check_ports(missing)
    for stage in (True, False):
        for program in missing:
            if program.engine is stage:
                program.prepare()
                _call(server.supervisor.startProcess, program.name, False)
        _wait_until_well(settings, server, [program for program in wanted if program.engine is stage])
        for program in missing:
            if program.engine is stage:
                program.provide()


def stop(settings: Settings) -> None:
    """Stop everything, platform first (it cannot run without its engine); does nothing when nothing runs."""
    with _connected(settings) as server:
        if server is None:
            _end_orphans(settings)
            return
        for program in reversed(programs(settings)):
            _call(server.supervisor.stopProcess, program.name, True)
        pid = int(server.supervisor.getPID())
        _call(server.supervisor.shutdown)
    _wait_for_end([psutil.Process(pid)] if psutil.pid_exists(pid) else [])


def restart(settings: Settings, name: str, *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Stop one program, call `meanwhile`, start it again and wait until it is healthy."""
    with _connected(settings) as server:
        if server is None:
            raise StartFailed("nothing runs; start it with: kinolog up --detach")
        _call(server.supervisor.stopProcess, name, True)
        meanwhile()
        _call(server.supervisor.startProcess, name, False)
        _wait_until_well(settings, server, [program for program in programs(settings) if program.name == name])


def run(settings: Settings, *, started: Callable[[], None] = lambda: None) -> None:
    """Start everything, wait for SIGINT or SIGTERM, stop everything."""
    ended = False

    def end(_signal: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    start(settings)
    started()
    while not ended:
        time.sleep(0.2)
    stop(settings)


def status(settings: Settings, *, engine_only: bool = False) -> list[dict[str, Any]]:
    """Return a row per program: name, state, ready, pid, address, rss_bytes, uptime_s, detail (the fault),
    warnings (for a person, by part)."""
    with _connected(settings) as server:
        infos = {info["name"]: info for info in _infos(server)} if server is not None else {}
    rows = []
    for program in programs(settings):
        if engine_only and not program.engine:
            continue
        info = infos.get(program.name, {})
        detail = _complaint(program, info)
        rows.append(
            {
                "name": program.name,
                "state": str(info.get("statename", "STOPPED")).lower(),
                "ready": detail is None,
                "pid": info.get("pid") or None,
                "address": f"{program.host}:{next(iter(program.ports.values()))}",
                "rss_bytes": _rss(info.get("pid")),
                "uptime_s": info["now"] - info["start"] if info.get("statename") == "RUNNING" else None,
                "detail": detail,
                "warnings": dict(program.warnings()) if detail is None else {},
            }
        )
    return rows


def reset(settings: Settings) -> None:
    """Stop everything and delete the engine's data: log, database, objects."""
    import shutil

    from infra.local.engine import postgres

    stop(settings)
    where = directories(settings)
    for path in (where.kafka, where.objects, postgres.data_directory(settings)):
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


# --- supervisord ----------------------------------------------------------------------------------------------------


def _socket(settings: Settings) -> Path:
    return socket_path(directories(settings).run, "supervisor.sock")


@contextmanager
def _connected(settings: Settings) -> Iterator[Any | None]:
    """Yield supervisord's interface, None when it does not run."""
    path = _socket(settings)
    if not path.exists():
        yield None
        return
    transport = SupervisorTransport(None, None, f"unix://{path}")
    server: Any = ServerProxy("http://127.0.0.1", transport=transport)
    try:
        try:
            server.supervisor.getPID()
        except (OSError, Fault):
            server = None
        yield server
    finally:
        transport.close()


def _launch(settings: Settings, every: Iterable[Program]) -> None:
    where = directories(settings)
    for folder in (where.var, where.run, where.logs):
        private_folder(folder)
    _socket(settings).unlink(missing_ok=True)
    config = where.run / "supervisord.conf"
    private_file(config, render(settings, every))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        umask=PRIVATE_UMASK,
        env=os.environ | settings.absolute_paths(os.environ) | {MARK: str(where.var)},
    )
    if done.returncode or not _until(lambda: _answers(settings), ANSWERS_S):
        raise StartFailed(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-300:]}")


def _answers(settings: Settings) -> bool:
    with _connected(settings) as server:
        return server is not None


def render(settings: Settings, every: Iterable[Program]) -> str:
    """Return supervisord.conf."""
    where = directories(settings)
    sock, run, logs, root = (str(path).replace("%", "%%") for path in (_socket(settings), where.run, where.logs, ROOT))
    twice = logs.replace("%", "%%")  # supervisord expands the paths of programs' logs a second time
    parts = [
        f"[unix_http_server]\nfile={sock}\nchmod=0600\n",
        "[supervisord]\n"
        f"logfile={logs}/supervisord.log\nlogfile_maxbytes=1MB\nlogfile_backups=1\n"
        f"pidfile={run}/supervisord.pid\nchildlogdir={logs}\numask=077\n" + ("user=root\n" if os.geteuid() == 0 else ""),
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n",
    ]
    for program in every:
        lines = {
            "command": program.command_line,
            "directory": "/" if program.user else root,
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "30",
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_wait_s),
            "redirect_stderr": "true",
            "stdout_logfile": f"{twice}/{program.name}.log",
            "stdout_logfile_maxbytes": str(LOG_BYTES),
            "stdout_logfile_backups": str(LOG_BACKUPS),
        }
        if program.user:
            lines["user"] = program.user
        parts.append(f"[program:{program.name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items()))
    return "\n".join(parts)


def _infos(server: Any) -> list[dict[str, Any]]:
    return list(server.supervisor.getAllProcessInfo())


def _call(method: Any, *arguments: Any) -> None:
    """Call supervisord. Starting a running program, or stopping a stopped one, is no fault."""
    try:
        method(*arguments)
    except Fault as fault:
        if not any(word in fault.faultString for word in ("ALREADY_STARTED", "NOT_RUNNING", "SHUTDOWN_STATE", "BAD_NAME")):
            raise StartFailed(f"supervisord: {fault.faultString}") from fault


# --- waiting, ports, orphans ----------------------------------------------------------------------------------------


def _until(probe: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _wait_until_well(settings: Settings, server: Any, batch: list[Program]) -> None:
    """Wait until each is healthy. Raises StartFailed with the fault and the end of its log; at once for a crash loop."""
    deadline = time.monotonic() + READY_S
    starts: dict[str, set[int]] = {program.name: set() for program in batch}
    unwell = {program.name: program for program in batch}
    while unwell:
        infos = {info["name"]: info for info in _infos(server)}
        for name in unwell:
            starts[name].add(infos[name]["start"])
            crashes = len(starts[name]) - (infos[name]["statename"] in ("RUNNING", "STARTING"))
            if crashes >= CRASHES_MAX or infos[name]["statename"] == "FATAL":
                raise StartFailed(f"{name} ends as soon as it is started; {_last_words(settings, name)}")
        complaints = {name: complaint for name, program in unwell.items() if (complaint := _complaint(program, infos[name]))}
        if complaints and time.monotonic() > deadline:
            name, complaint = next(iter(complaints.items()))
            raise StartFailed(f"{name} {complaint} after {READY_S:.0f} s; {_last_words(settings, name)}")
        unwell = {name: unwell[name] for name in complaints}
        time.sleep(0.1 if unwell else 0)


def _complaint(program: Program, info: dict[str, Any]) -> str | None:
    """Return a program's fault; None for one that runs and is healthy."""
    if info.get("statename") != "RUNNING":
        return info.get("spawnerr") or "is not running"
    return program.health()


def _last_words(settings: Settings, name: str) -> str:
    """Return the path of a program's log, and its end."""
    path = directories(settings).logs / f"{name}.log"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        tail = ""
    return f"the end of {path}:\n{tail}" if tail else f"it wrote nothing to {path}"


def _check_ports(missing: Iterable[Program]) -> None:
    """Raise PortTaken before anything is started."""
    for program, setting, port in [(each, *item) for each in missing for item in each.ports.items()]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((program.host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise StartFailed(f"{program.name} cannot listen at {program.host}:{port}: {error.strerror}") from error
                raise PortTaken(
                    f"{program.name} cannot have port {port}: {_holder(port)}. "
                    f"End that process, or set KINOLOG_{setting.upper()} to a free port."
                ) from error


def _holder(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
            return f"it is used by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "it is used by another process"


def _end_orphans(settings: Settings) -> None:
    """End the orphans of a killed supervisord: processes with this installation's mark, and their children."""
    mark = str(directories(settings).var)
    mine = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                mine.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # it has just ended, or is somebody else's
    for process in mine:
        process.terminate()
    _wait_for_end(mine)


def _wait_for_end(processes: list[psutil.Process]) -> None:
    _gone, alive = psutil.wait_procs(processes, timeout=STOP_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)


def _rss(pid: int | None) -> int | None:
    """Return the resident bytes of a process and its children, shared pages counted once per process."""
    try:
        root = psutil.Process(pid) if pid else None
        processes = [root, *root.children(recursive=True)] if root else []
    except psutil.NoSuchProcess:
        processes = []
    sizes = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a child, such as a connection of PostgreSQL, may have ended just now
            sizes.append(process.memory_info().rss)
    return sum(sizes) if sizes else None
