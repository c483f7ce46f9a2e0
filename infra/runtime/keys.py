"""The key that reports are signed with: Ed25519, made at first use, kept in `var/keys/report`, mode 0600."""

import contextlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from infra.runtime.settings import Settings
from infra.runtime.tokens import private


def ensure_report_key(settings: Settings) -> Ed25519PrivateKey:
    """Return the key; make it if it is missing."""
    path = settings.var_dir.resolve() / "keys" / "report"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with contextlib.suppress(FileExistsError), open(path, "xb", opener=private) as file:
            file.write(made)
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey), f"{path} is no Ed25519 key"
    return key
