"""Settings of logins. They are the environment's alone: a stored one could lock everybody out."""

import json
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from infra.runtime.service_settings import ServiceSettings
from producers.providers import Provider


def _from_json(value: object) -> object:
    """Return the values that a text of JSON has: a variable has only text. Raises ValueError."""
    try:
        return json.loads(value or "[]") if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("must be a list in JSON") from error


class LoginSettings(ServiceSettings, frozen=True, extra="forbid"):
    """The second part of the settings."""

    file_token: bool = Field(True, description="Whether the token in tokens/admin of var_dir may administer, without a person.")
    session_idle_s: int = Field(
        12 * 3600, ge=60, le=366 * 24 * 3600, description="Time without a request after which a browser's login ends, seconds."
    )
    session_life_s: int = Field(
        30 * 24 * 3600, ge=300, le=366 * 24 * 3600, description="Longest life of a browser's login, seconds."
    )
    password_passes: int = Field(3, ge=1, le=20, description="Passes of argon2id over its memory, for each password.")
    password_memory_kib: int = Field(
        64 * 1024, ge=8 * 1024, le=2**21, description="Memory of argon2id for each password, KiB; two are checked at once."
    )
    password_lanes: int = Field(4, ge=1, le=64, description="Lanes of argon2id.")
    client_key_days: int = Field(
        7,
        ge=1,
        le=366,
        description="Days for which one key hashes the addresses of people on the log. Keys older than the last one are deleted: "
        "nobody can distinguish an address by its hash then.",
    )
    openid_providers: Annotated[tuple[Provider, ...], BeforeValidator(_from_json)] = Field(
        (),
        description="Providers of logins by OpenID Connect: tables in the TOML file, or JSON (docs/how-to/log-in.md).",
    )

    @field_validator("openid_providers")
    @classmethod
    def _providers_differ(cls, providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
        if len({provider.id for provider in providers}) < len(providers):
            raise ValueError("has two providers with one id")
        return providers
