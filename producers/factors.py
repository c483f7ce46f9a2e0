"""TOTP codes (RFC 6238) and recovery codes: their form and their check. No socket, no clock.

A TOTP code belongs to a step of 30 s. The store remembers the newest step that was accepted, so that a code is good once.
A recovery code has 80 random bits, so that a fast hash protects it.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime

import pyotp
import segno

STEP_S = 30
WINDOW_STEPS = 1
"""A phone's clock may be wrong by this many steps."""
DIGITS = 6
RECOVERY_CODES = 10
RECOVERY_BYTES = 10
ISSUER = "Kinolog"


@dataclass(frozen=True)
class Totp:
    """A person's secret. It counts once a code has proven that their app has it."""

    secret: str = field(repr=False)
    begun_at: datetime
    proven: bool


def totp_secret() -> str:
    """Return a new secret: 160 random bits in base32."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def otpauth_uri(secret: str, name: str) -> str:
    """Return the URI that an authenticator app reads, for an account's name."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def qr_code(text: str) -> str:
    """Return a text as a QR code in SVG."""
    return segno.make(text, error="m", micro=False).svg_inline(scale=4, border=4)


def looks_like_totp(code: str) -> bool:
    """Return whether a text is meant as a TOTP code, and not as a recovery code."""
    digits = "".join(code.split())
    return len(digits) == DIGITS and digits.isascii() and digits.isdigit()


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the step whose code this is, the present one or a neighbour; None for a wrong code."""
    if not looks_like_totp(code):
        return None
    digits = "".join(code.split())
    generator = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_S)
    present = int(now.timestamp()) // STEP_S
    steps = range(present - WINDOW_STEPS, present + WINDOW_STEPS + 1)
    return next((step for step in steps if hmac.compare_digest(generator.generate_otp(step), digits)), None)


def recovery_codes() -> tuple[str, ...]:
    """Return new recovery codes, as `abcd-efgh-ijkl-mnop`. Their texts are shown once and never stored."""
    return tuple(_grouped(base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()) for _ in range(RECOVERY_CODES))


def recovery_digest(code: str) -> bytes:
    """Return the SHA-256 by which a recovery code is stored, whatever its case, spaces and hyphens."""
    return hashlib.sha256("".join(code.split()).replace("-", "").lower().encode()).digest()


def _grouped(text: str) -> str:
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))
