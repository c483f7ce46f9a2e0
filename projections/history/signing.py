"""Signed documents: Ed25519 over everything but the signature."""

from typing import Self

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel


class Signed(BaseModel, frozen=True):
    """A document with proof. `signature` (hex) covers `signed_bytes`; `public_key` is raw, in hex."""

    public_key: str = ""
    signature: str = ""

    @property
    def signed_bytes(self) -> bytes:
        """Everything but the signature, as JSON with sorted keys."""
        return orjson.dumps(self.model_dump(mode="json", exclude={"signature"}), option=orjson.OPT_SORT_KEYS)

    def signed(self, key: Ed25519PrivateKey) -> Self:
        """Return the document with public key and signature."""
        named = self.model_copy(update={"public_key": key.public_key().public_bytes_raw().hex()})
        return named.model_copy(update={"signature": key.sign(named.signed_bytes).hex()})

    def faults(self, key: Ed25519PublicKey) -> list[str]:
        """Return one sentence when it was not signed with `key`, or was changed since."""
        if not self.signature:
            return ["signature: the report is not signed"]
        if self.public_key != key.public_bytes_raw().hex():
            return ["signature: it is made with another key than the expected one"]
        try:
            key.verify(bytes.fromhex(self.signature), self.signed_bytes)
        except (InvalidSignature, ValueError):
            return ["signature: it does not fit to what the report says"]
        return []
