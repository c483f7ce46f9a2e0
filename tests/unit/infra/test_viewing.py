"""The rules of viewing are settings, with limits."""

import pytest

from infra.runtime.settings import InvalidSettings, Settings
from infra.viewing import rules_of, under_settings
from projections import catalog
from projections.streams.projection import PROJECTION
from projections.streams.rules import Rules
from projections.streams.rules import rules_of as of_values


def test_the_defaults_of_settings_and_folds_are_the_same() -> None:
    assert rules_of(Settings()) == Rules()
    assert under_settings(PROJECTION, Settings()) is PROJECTION
    assert under_settings(catalog.PROJECTION, Settings()) is catalog.PROJECTION


def test_settings_make_rules_and_stored_rules_make_them_again() -> None:
    rules = rules_of(Settings(viewing_zone="Asia/Kathmandu", viewing_expiry_s=120, viewing_merge_back_s=0))
    assert rules == Rules(zone="Asia/Kathmandu", expiry_ms=120_000, back_max_ms=0)
    assert of_values(rules._asdict() | {"rule_of_a_later_version": 1}) == rules
    assert of_values({"zone": "Asia/Kathmandu"}) == Rules(zone="Asia/Kathmandu"), "a version from before some rules were kept"


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe/", "a\0b", "x" * 65])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSettings):
        Settings.of({"viewing_zone": zone})
