"""The command line finds a person by name, id, or a part of the id; nobody is taken for somebody else."""

import httpx
import pytest

from events.errors import InvalidRequest, NotFound
from infra.commands.people import user_of
from infra.commands.support.admin_api import AdminApi

ANNA, EVE, GONE = (f"0192f0c0-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))


def api(eves_name: str) -> AdminApi:
    people = [
        {"user_id": ANNA, "name": "Zoë Anna"},
        {"user_id": EVE, "name": eves_name},
        {"user_id": GONE, "name": None},
    ]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"items": people}))
    return AdminApi(httpx.Client(base_url="http://test", transport=transport))


@pytest.mark.parametrize("who", ["Zoë Anna", "zoe\u0308  anna", ANNA, "00000001"])
def test_a_person_is_found_by_name_and_by_id(who: str) -> None:
    assert user_of(api("eve"), who) == ANNA


@pytest.mark.parametrize("name", [ANNA, "00000001"])
def test_somebody_who_has_another_persons_id_for_a_name_is_not_taken_for_them(name: str) -> None:
    assert user_of(api(name), ANNA) == ANNA
    if name != ANNA:
        with pytest.raises(InvalidRequest, match="fits several people"):
            user_of(api(name), name)


@pytest.mark.parametrize("who", ["nobody", "", " ", "\u200b", "0000"])
def test_nothing_fits_nobody(who: str) -> None:
    with pytest.raises(NotFound, match="kinolog users list"):
        user_of(api("eve"), who)
