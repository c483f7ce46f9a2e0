"""The administrator's bearer token: made at the first start, kept in `var/tokens/admin`, mode 0600."""

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from infra.runtime.folders import private_folder
from infra.runtime.settings import Settings


def admin_token_path(settings: Settings) -> Path:
    """Return where the token lies."""
    return settings.var_dir / "tokens" / "admin"


def ensure_admin_token(settings: Settings) -> str:
    """Return the token; make it if it is missing."""
    path = admin_token_path(settings)
    if not path.exists():
        private_folder(path.parent)
        with contextlib.suppress(FileExistsError), open(path, "x", opener=private) as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


def accepted_admin_token(settings: Settings) -> str:
    """Return the token if it may administer, made if it is missing; empty if it is switched off."""
    return ensure_admin_token(settings) if settings.file_token else ""


def find_admin_token(settings: Settings) -> str:
    """Return the token if it may administer; empty if it is switched off, or this machine has none."""
    if not settings.file_token:
        return ""
    try:
        return admin_token_path(settings).read_text().strip()
    except FileNotFoundError:
        return ""


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read."""
    return os.open(path, flags, 0o600)


def matches(token: str, presented: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(token.encode(), presented.encode())
