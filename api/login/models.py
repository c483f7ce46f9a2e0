"""Requests and answers about factors, passkeys and providers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from events.text import Line, line_fault
from producers.passwords import CHARS_MAX

Code = Annotated[Line, Field(min_length=1, max_length=64, examples=["123456"])]
"""A code of an authenticator app, or a recovery code."""
Password = Annotated[Line, Field(min_length=1, max_length=CHARS_MAX, repr=False, examples=["hold the ladder steady"])]


def _of_clean_texts(value: Any) -> Any:
    """Return a JSON value. Raises ValueError for a text in it that no browser sends: with control characters, or half ones."""
    texts = [value]
    while texts:
        match texts.pop():
            case str() as text if fault := line_fault(text):
                raise ValueError(f"a text of the credential {fault}")
            case dict() as inner:
                texts += [*inner, *inner.values()]
            case list() as inner:
                texts += inner
            case _:
                pass
    return value


Credential = Annotated[
    dict[str, Any],
    AfterValidator(_of_clean_texts),
    Field(description="`PublicKeyCredential.toJSON()`.", examples=[{"id": "wA3…", "type": "public-key"}]),
]


class Confirmed(BaseModel, extra="forbid"):
    """A change of how a person logs in, confirmed by their password."""

    password: Password


class Removal(Confirmed):
    """The end of the second factor, confirmed by password and code."""

    code: Code


class Proof(BaseModel, extra="forbid"):
    """A code."""

    code: Code


class Secret(BaseModel):
    """A secret for an authenticator app; shown here, and never again."""

    secret: str = Field(examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    uri: str = Field(examples=["otpauth://totp/Kinolog:anna?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Kinolog"])
    qr_code: str = Field(description="The URI as SVG.", examples=["<svg>…</svg>"])


class RecoveryCodes(BaseModel):
    """Codes that are good once each, when the phone is lost; shown here, and never again."""

    recovery_codes: tuple[str, ...] = Field(examples=[["abcd-efgh-ijkl-mnop"]])


class PasskeyShown(BaseModel):
    """A passkey of an account."""

    passkey_id: str
    name: str = Field(examples=["Phone"])
    added_at: datetime
    used_at: datetime | None


class Factors(BaseModel):
    """Ways in which a person proves who they are, besides the password."""

    totp: bool
    recovery_codes_left: int = Field(examples=[10])
    passkeys: list[PasskeyShown]


class NewPasskey(BaseModel, extra="forbid"):
    """A browser's answer to the options of a registration."""

    name: Annotated[Line, Field(min_length=1, max_length=60, examples=["Phone"])]
    credential: Credential


class PasskeyLogin(BaseModel, extra="forbid"):
    """A browser's answer to the options of a login."""

    credential: Credential


class PasskeyAdded(BaseModel):
    """A passkey that is good from now on."""

    passkey_id: str = Field(examples=["pk1"])


class Button(BaseModel):
    """A provider that people can log in with."""

    id: str = Field(examples=["home"])
    name: str = Field(examples=["Home"])
    url: str = Field(description="Address at which a browser logs in.", examples=["/api/auth/openid/home"])


class Away(BaseModel):
    """The address at which a browser logs out of the provider, too; null when there is none."""

    url: str | None = Field(examples=["https://login.example.org/logout?client_id=kinolog"])


class LoggedOut(BaseModel):
    """A person is logged out."""

    message: str = Field("logged out", examples=["logged out"])
