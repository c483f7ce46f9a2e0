"""Providers of logins, as the settings name them."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Self, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

from events.people import Role

ROLES: tuple[Role, ...] = get_args(Role)
"""The weakest first: a person in several groups gets the strongest of their roles."""
EVERYBODY = "*"
"""A group that each person of a provider is in."""


class Provider(BaseModel, frozen=True, extra="forbid"):
    """One provider of logins, as the settings name it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,29}$", description="Its name in addresses.")
    name: str = Field(min_length=1, max_length=60, description="Text on the button.")
    issuer: str = Field(description="Its issuer, exactly as its discovery document says it.")
    client_id: str = Field(min_length=1, max_length=255)
    client_secret: SecretStr = SecretStr("")
    scopes: tuple[str, ...] = ("openid", "profile")
    groups_claim: str = Field("groups", description="The claim that lists a person's groups.")
    roles: Mapping[str, Role] = Field(description="Role of each group; `*` is everybody. Without one, nobody gets in.")
    hosts: tuple[str, ...] = Field((), description="Other hosts that its endpoints may be on, besides the issuer's.")

    @model_validator(mode="after")
    def _the_issuer_is_a_safe_url(self) -> Self:
        url = urlsplit(self.issuer)
        if url.scheme != "https" and not (url.scheme == "http" and _is_this_machine(url.hostname)):
            raise ValueError("issuer must be an https:// URL")
        if not url.hostname or url.query or url.fragment or url.username:
            raise ValueError("issuer must be a URL without user, query and fragment")
        if "openid" not in self.scopes:
            raise ValueError("scopes must contain openid")
        return self


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
