"""Secret values on the log and in the database: AES-256-GCM under a key that is in neither.

The key is made of the setting `settings_key`, else of the file `var/tokens/settings.key`, mode 0600. Without
it every secret that was ever stored is forgotten. The name of the setting is authenticated: a sealed value fits no other setting.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.errors import KinologError
from infra.runtime.folders import private_folder
from infra.runtime.settings import Settings
from infra.runtime.tokens import private

NONCE_BYTES = 12


class Sealed(KinologError):
    """A stored secret cannot be read with this machine's key."""


class Seal:
    """Encrypts and decrypts values with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, name: str, text: str) -> str:
        """Return the value of a setting, encrypted, as text."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), name.encode())).decode()

    def open(self, name: str, sealed: str) -> str:
        """Return the value of a setting. Raises Sealed."""
        try:
            data = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], name.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise Sealed(f"{name}: the stored secret cannot be read with the key of this machine") from error


def _path(settings: Settings) -> Path:
    return settings.var_dir / "tokens" / "settings.key"


def find_seal(settings: Settings) -> Seal | None:
    """Return the seal; None when this machine has no key."""
    text = settings.settings_key.get_secret_value()
    if not text:
        try:
            text = _path(settings).read_text().strip()
        except FileNotFoundError:
            return None
    return Seal(hashlib.sha256(text.encode()).digest())


def ensure_seal(settings: Settings) -> Seal:
    """Return the seal; make the key if there is none."""
    path = _path(settings)
    if not settings.settings_key.get_secret_value() and not path.exists():
        private_folder(path.parent)
        with contextlib.suppress(FileExistsError), open(path, "x", opener=private) as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    found = find_seal(settings)
    assert found is not None, "the key was just written"
    return found
