"""Providers of logins in the settings: as JSON and as TOML, without their secrets, and each way to get them wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.runtime.settings import InvalidSettings, Settings

HOME: dict[str, Any] = {
    "id": "home",
    "name": "Home",
    "issuer": "https://login.example.org",
    "client_id": "kinolog",
    "client_secret": "very-secret",
    "roles": {"film": "operator"},
}


def read(*providers: dict[str, Any]) -> Settings:
    return Settings.from_env({"KINOLOG_OPENID_PROVIDERS": json.dumps(providers)})


def test_providers_come_as_json_or_as_tables(tmp_path: Path) -> None:
    (tmp_path / "kinolog.toml").write_text(
        '[[openid_providers]]\nid = "home"\nname = "Home"\nissuer = "https://login.example.org"\nclient_id = "kinolog"\n'
        'client_secret = "very-secret"\nroles = { film = "operator" }\n'
    )
    from_file = Settings.from_env({"KINOLOG_CONFIG": str(tmp_path / "kinolog.toml")})
    assert from_file.openid_providers == read(HOME).openid_providers
    assert from_file.openid_providers[0].scopes == ("openid", "profile")
    assert Settings.from_env({"KINOLOG_OPENID_PROVIDERS": ""}).openid_providers == ()


def test_secrets_are_not_shown() -> None:
    settings = read(HOME)
    assert "very-secret" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"issuer": "http://login.example.org"}, "(item 1) issuer must be an https:// URL"),
        ({"issuer": "https://user@login.example.org"}, "issuer must be a URL without user"),
        ({"issuer": "https://login.example.org?x=1"}, "issuer must be a URL without user, query and fragment"),
        ({"scopes": ["profile"]}, "scopes must contain openid"),
        ({"roles": {"film": "king"}}, "(item 1, roles, film) must be"),
        ({"id": "a/b"}, "(item 1, id) must have the form"),
        ({"secret": "x"}, "(item 1, secret)"),
    ],
)
def test_a_wrong_provider_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        read(HOME | change)
    assert said in str(refused.value)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["localhost:9400", "127.0.0.1:9400", "[::1]:9400"])
def test_this_machine_needs_no_tls(host: str) -> None:
    assert read(HOME | {"issuer": f"http://{host}"}).openid_providers


def test_two_providers_have_two_ids() -> None:
    with pytest.raises(InvalidSettings, match="two providers with one id"):
        read(HOME, HOME)


@pytest.mark.parametrize("text", ["x", "{", "3", '{"id": "home"}'])
def test_other_texts_are_no_list(text: str) -> None:
    with pytest.raises(InvalidSettings, match="must be a list"):
        Settings.from_env({"KINOLOG_OPENID_PROVIDERS": text})
