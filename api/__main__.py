"""`python -m api public|admin|worker|telemetry`: opens the services and serves one app with uvicorn."""

import asyncio
import importlib
import os
import sys

import uvloop

from infra.local.engine.endpoints import resolve
from infra.runtime import logs
from infra.runtime.folders import keep_private
from infra.runtime.refused_credentials import explained
from infra.runtime.settings import Settings
from infra.runtime.watchdog import Watchdog

APPS = ("public", "admin", "worker", "telemetry")


def main() -> None:
    """Serve the named app; only its own modules are loaded."""
    if len(sys.argv) != 2 or sys.argv[1] not in APPS:
        sys.exit(f"usage: python -m api {'|'.join(APPS)}")
    name = sys.argv[1]
    keep_private()
    settings = resolve(Settings.from_env(os.environ), "worker-app" if name == "worker" else name)
    logs.configure(settings, name)
    app = importlib.import_module(f"api.{name}.app")

    async def serve() -> None:
        watchdog = Watchdog(settings.stall_max_s)
        watchdog.start()
        await app.serve(settings, watchdog.pulse)

    with explained(settings, name), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
