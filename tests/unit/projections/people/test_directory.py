"""The directory: whoever is out at a position is out, whatever the order of grants, disables and uses."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

import pytest
from annotated_types import Le
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Recorded
from events.people import (
    BOOTSTRAP_ID,
    PasswordChanged,
    Right,
    Role,
    RoleChanged,
    SessionEnded,
    SessionOpened,
    TokenMade,
    TokenRevoked,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from infra.runtime.settings import Settings
from projections.people.directory import SESSION_LIFE_MAX, Directory
from projections.people.rights import RIGHTS, ROLES, rights_of
from tests.support.footage import START

LATER = START + timedelta(days=1)
USERS, IDS = ("u1", "u2"), ("a", "b", "c")


def opened(session_id: str = "s", user_id: str = "u1", expires_at: datetime = LATER) -> SessionOpened:
    return SessionOpened(session_id=session_id, user_id=user_id, how="password", expires_at=expires_at)


def token(token_id: str = "t", user_id: str = "u1", rights: tuple[Right, ...] = ("read", "edit")) -> TokenMade:
    return TokenMade(token_id=token_id, user_id=user_id, name="script", rights=rights, expires_at=LATER)


def folded(*events: Any) -> Directory:
    directory = Directory()
    for offset, event in enumerate(events):
        id_ = f"00000000-0000-7000-8000-{offset:012d}"
        directory.take(Recorded("people", 0, offset, Envelope(id_, "test", event.user_id, START, event, id_)))
    return directory


CREATED = UserCreated(user_id="u1", role="operator")


@pytest.mark.parametrize(
    ("events", "role"),
    [
        ([CREATED, opened()], "operator"),
        ([opened()], None),
        ([CREATED, opened(expires_at=START)], None),
        ([CREATED, opened(), SessionEnded(session_id="s", user_id="u1", because="logout")], None),
        ([CREATED, SessionEnded(session_id="s", user_id="u1", because="logout"), opened()], None),
        ([CREATED, opened(), UserDisabled(user_id="u1")], None),
        ([CREATED, opened(), UserDisabled(user_id="u1"), UserEnabled(user_id="u1")], None),
        ([CREATED, UserDisabled(user_id="u1"), UserEnabled(user_id="u1"), opened()], "operator"),
        ([CREATED, opened(), UserDeleted(user_id="u1"), UserEnabled(user_id="u1"), opened("s2")], None),
        ([CREATED, opened(), RoleChanged(user_id="u1", role="viewer")], None),
        ([CREATED, RoleChanged(user_id="u1", role="viewer"), opened()], "viewer"),
        ([CREATED, opened(), PasswordChanged(user_id="u1")], None),
    ],
)
def test_a_session_counts_while_its_person_may_come_in(events: list[Any], role: Role | None) -> None:
    assert folded(*events).of_session("s", START) == (("u1", role) if role else None)


@pytest.mark.parametrize(
    ("events", "rights"),
    [
        ([CREATED, token()], {"read", "edit"}),
        ([CREATED, token(), RoleChanged(user_id="u1", role="analyst")], {"read"}),
        ([CREATED, token(), UserDisabled(user_id="u1")], None),
        ([CREATED, token(), UserDisabled(user_id="u1"), UserEnabled(user_id="u1")], {"read", "edit"}),
        ([CREATED, token(), UserDeleted(user_id="u1")], None),
        ([CREATED, token(), TokenRevoked(token_id="t", user_id="u1")], None),
        ([CREATED, TokenRevoked(token_id="t", user_id="u1"), token()], None),
        ([token(user_id=BOOTSTRAP_ID, rights=("administer",))], {"administer"}),
        ([token()], None),
    ],
)
def test_a_token_has_at_most_the_rights_of_its_maker(events: list[Any], rights: set[Right] | None) -> None:
    directory = folded(*events)
    assert directory.of_token("t", START) == rights
    assert directory.of_token("t", LATER) is None, "it has expired"


def events_of(user: str, id_: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(
        [
            UserCreated(user_id=user, role="administrator"),
            RoleChanged(user_id=user, role="viewer"),
            RoleChanged(user_id=user, role="operator"),
            UserDisabled(user_id=user),
            UserEnabled(user_id=user),
            UserDeleted(user_id=user),
            PasswordChanged(user_id=user),
            opened(id_, user),
            SessionEnded(session_id=id_, user_id=user, because="ended"),
            token(id_, user, get_args(Right)),
            TokenRevoked(token_id=id_, user_id=user),
        ]
    )


histories = st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(IDS)).flatmap(lambda of: events_of(*of)), max_size=40)


@given(histories)
def test_no_order_of_events_lets_anybody_in_who_is_out(events: list[Any]) -> None:
    directory = folded(*events)
    out, role, deleted, ended, revoked = set(USERS), dict[str, Role](), set[str](), set[str](), set[str]()
    for event in events:  # the rule, said plainly
        match event:
            case UserCreated() if event.user_id not in role:
                role[event.user_id] = event.role
                out.discard(event.user_id)
            case RoleChanged() if event.user_id in role:
                role[event.user_id] = event.role
            case UserDisabled():
                out.add(event.user_id)
            case UserEnabled() if event.user_id in role:
                out.discard(event.user_id)
            case UserDeleted() if event.user_id in role:
                deleted.add(event.user_id)
            case SessionEnded():
                ended.add(event.session_id)
            case TokenRevoked():
                revoked.add(event.token_id)
            case _:
                pass
    for id_ in IDS:
        if found := directory.of_session(id_, START):
            user_id, present = found
            assert user_id not in out | deleted and present == role[user_id] and id_ not in ended
        if (rights := directory.of_token(id_, START)) is not None:
            maker = directory.tokens[id_].user_id
            assert maker not in out | deleted and rights <= rights_of(role[maker]) and id_ not in revoked


@given(histories, st.data())
def test_the_same_event_again_changes_nothing(events: list[Any], data: st.DataObject) -> None:
    begun = [event for event in events if isinstance(event, SessionOpened | TokenMade | SessionEnded | TokenRevoked)]
    again = [*events, *(data.draw(st.permutations(begun)) if begun else ())]
    before, after = folded(*events), folded(*again)
    for id_ in IDS:
        ended = any(getattr(e, "session_id", None) == id_ and isinstance(e, SessionEnded) for e in events)
        assert not ended or after.of_session(id_, START) is None
        if before.of_token(id_, START) is None and any(isinstance(e, TokenRevoked) and e.token_id == id_ for e in events):
            assert after.of_token(id_, START) is None


class Moment(NamedTuple):
    """An event and the time since the one before it."""

    event: Any
    minutes: int


def _lasting(user: str, id_: str, minutes: int) -> list[Any]:
    until = START + timedelta(minutes=minutes)
    return [opened(id_, user, until), TokenMade(token_id=id_, user_id=user, name="script", rights=("read",), expires_at=until)]


moments = st.lists(
    st.builds(
        Moment,
        st.one_of(
            st.builds(_lasting, st.sampled_from(USERS), st.sampled_from("abcdefgh"), st.integers(1, 300)).flatmap(st.sampled_from),
            st.tuples(st.sampled_from(USERS), st.sampled_from("abcdefgh")).flatmap(lambda of: events_of(*of)),
        ),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(moments)
def test_forgetting_ids_lets_nobody_in_and_leaves_few_of_them(history: list[Moment]) -> None:
    """A directory that sweeps at every event lets in at most those that one that never forgets does, at any time from then on."""
    quick, slow, time = Directory(), Directory(), START
    for offset, (event, minutes) in enumerate(history):
        time += timedelta(minutes=minutes)
        id_ = f"00000000-0000-7000-8000-{offset:012d}"
        recorded = Recorded("people", 0, offset, Envelope(id_, "test", event.user_id, time, event, id_))
        quick._swept_at = 0
        quick.take(recorded)
        slow._swept_at = 10**9
        slow.take(recorded)
        for later in (time, time + timedelta(minutes=45), time + timedelta(hours=6)):
            for name in "abcdefgh":
                assert quick.of_session(name, later) == slow.of_session(name, later)
                assert quick.of_token(name, later) == slow.of_token(name, later)


def test_a_year_of_logins_is_forgotten_but_for_those_that_may_come_again() -> None:
    directory = Directory()
    for number in range(50_000):
        time = START + timedelta(minutes=10 * number)
        session = opened(f"s{number}", "u1", time + timedelta(days=30))
        events: list[Any] = [session, SessionEnded(session_id=f"s{number}", user_id="u1", because="logout")]
        for event in events[: 1 + number % 2]:
            id_ = f"00000000-0000-7000-8000-{number:012d}"
            directory.take(Recorded("people", 0, number, Envelope(id_, "test", "u1", time, event, id_)))
    live = 30 * 24 * 6
    assert live <= len(directory.sessions) + len(directory._ended) <= 2 * live + 2
    assert len([*directory.sessions_of("u1", time)]) == live / 2


def test_the_longest_session_is_that_of_the_settings() -> None:
    (limit,) = (one.le for one in Settings.model_fields["session_life_s"].metadata if isinstance(one, Le))
    assert timedelta(seconds=float(str(limit))) == SESSION_LIFE_MAX


def test_every_right_is_somebodys_and_an_analyst_changes_nothing() -> None:
    assert set(RIGHTS) == set(get_args(Right)) == ROLES["administrator"]
    assert set(ROLES) == set(get_args(Role))
    assert ROLES["analyst"].isdisjoint({"upload", "edit", "operate", "administer"})
    assert ROLES["viewer"] < ROLES["operator"] < ROLES["administrator"]
