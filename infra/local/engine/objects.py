"""The local object store's key: made at the first start, kept in `var/run/objects.secret`, mode 0600."""

import secrets
from pathlib import Path

from infra.runtime.folders import private_file, private_folder
from infra.runtime.settings import Settings


def _file(settings: Settings) -> Path:
    return settings.var_dir / "run" / "objects.secret"


def secret(settings: Settings) -> str | None:
    """Return the secret key of the settings, else the stored one; None before the first start."""
    if given := settings.s3_secret_key.get_secret_value():
        return given
    try:
        return _file(settings).read_text()
    except FileNotFoundError:
        return None


def ensure_secret(settings: Settings) -> str:
    """Return the secret key; make it if it is missing."""
    there = secret(settings)
    if there is None:
        there = secrets.token_urlsafe(32)
        private_folder(_file(settings).parent)
        private_file(_file(settings), there)
    return there
