"""`kinolog users`, `kinolog tokens`: who may come in, and tokens of scripts."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from events.errors import InvalidRequest, NotFound
from infra.commands.support.output import AsJson, document, done, line, moment, note, short, table

if TYPE_CHECKING:
    from infra.commands.support.admin_api import AdminApi
    from infra.runtime.settings import Settings

users = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
tokens = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
Who = Annotated[str, typer.Argument(help="A person's name, their id, or a part of it of at least eight characters.")]
RoleName = Literal["viewer", "analyst", "operator", "administrator"]
RoleOption = Annotated[RoleName, typer.Option(help="viewer, analyst, operator or administrator.")]


@users.callback()
def _users() -> None:
    """People: invite them, change their roles, let them in no longer.

    \b
    Examples:
      kinolog users setup
      kinolog users invite --role operator
      kinolog users disable anna --reason "left the team"
    """


@tokens.callback()
def _tokens() -> None:
    """Tokens of scripts: each with some rights, shown once.

    \b
    Examples:
      kinolog tokens make "nightly import" --right read --right upload
      kinolog tokens list
    """


# --- people -----------------------------------------------------------------------------------------------------------


@users.command("setup")
def set_up(as_json: AsJson = False) -> None:
    """Make the link with which the first administrator makes their account.

    \b
    Examples:
      kinolog users setup
    """
    _link({"purpose": "setup"}, as_json=as_json)


@users.command()
def invite(role: RoleOption = "viewer", as_json: AsJson = False) -> None:
    """Make a link with which one person makes their account.

    \b
    Examples:
      kinolog users invite --role operator
    """
    _link({"purpose": "invitation", "role": role}, as_json=as_json)


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List all people.

    \b
    Examples:
      kinolog users list
    """
    from infra.commands.support.admin_api import connected

    with connected() as api:
        rows = api.get("/api/users")["items"]
    table(
        rows,
        {
            "name": lambda row: row["name"] or "",
            "role": lambda row: row["role"],
            "state": lambda row: "deleted" if row["deleted"] else "disabled" if row["disabled"] else "",
            "logins": lambda row: row["sessions"],
            "id": lambda row: short(row["user_id"]),
        },
        as_json=as_json,
        empty="no people yet; begin with: kinolog users setup",
    )


@users.command()
def role(
    who: Who,
    role: Annotated[RoleName, typer.Argument(help="viewer, analyst, operator or administrator.")],
    as_json: AsJson = False,
) -> None:
    """Give a person another role; they log in again.

    \b
    Examples:
      kinolog users role anna analyst
    """
    _change(who, {"role": role}, as_json=as_json)


@users.command()
def disable(
    who: Who,
    reason: Annotated[str, typer.Option(help="The reason, recorded with the event.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a person in no longer; they are logged out everywhere within two seconds.

    \b
    Examples:
      kinolog users disable anna --reason "left the team"
    """
    _change(who, {"disabled": True, "reason": reason}, as_json=as_json)


@users.command()
def enable(who: Who, as_json: AsJson = False) -> None:
    """Let a disabled person in again.

    \b
    Examples:
      kinolog users enable anna
    """
    _change(who, {"disabled": False}, as_json=as_json)


@users.command()
def delete(who: Who, as_json: AsJson = False) -> None:
    """Delete a person's name and secrets for good; their id stays in what they did.

    \b
    Examples:
      kinolog users delete anna
    """
    from infra.commands.support.admin_api import connected, resource

    with connected() as api:
        api.delete(resource("users", user_of(api, who)))
    done("deleted", as_json=as_json)


@users.command()
def reset(
    who: Who,
    factors: Annotated[bool, typer.Option("--factors", help="Remove a lost second factor instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a link with which a person chooses a new password, or remove a second factor that is lost.

    \b
    Examples:
      kinolog users reset anna
      kinolog users reset anna --factors
    """
    from infra.commands.support.admin_api import connected, resource

    with connected() as api:
        user_id = user_of(api, who)
        if factors:
            api.post(resource("users", user_id, "reset-factors"))
            done("the second factor is removed; a password is enough now", as_json=as_json)
            return
        made = api.post(resource("users", user_id, "reset"))
    _print_link(made, as_json=as_json)


def first_link(settings: "Settings") -> str | None:
    """Return a link for the first administrator; None when somebody administers already."""
    from infra.commands.support.admin_api import connected

    with connected(settings) as api:
        if not api.get("/api/auth/check")["setup_required"]:
            return None
        made = api.post("/api/users/invitations", {"purpose": "setup"})
    return _address(settings, made)


def _address(settings: "Settings", made: dict[str, Any]) -> str:
    """Return the address of a link; its text is behind the #, which no server sees."""
    from infra.commands.support.admin_api import url_of

    return f"{url_of(settings)}/join#{made['token']}"


def _change(who: str, change: dict[str, object], *, as_json: bool) -> None:
    from infra.commands.support.admin_api import connected, resource

    with connected() as api:
        api.patch(resource("users", user_of(api, who)), change)
    done("changed", as_json=as_json)


def user_of(api: "AdminApi", who: str) -> str:
    """Return the id of a person. Raises NotFound, InvalidRequest for several, as when somebody has another's id for a name."""
    from producers.accounts import folded
    from projections.short_ids import fits

    people: Sequence[dict[str, Any]] = api.get("/api/users")["items"]
    found = {str(one["user_id"]) for one in people if fits(who, one["user_id"]) or folded(one["name"] or "") == folded(who) != ""}
    if not found:
        raise NotFound(f"there is no person {who}; see: kinolog users list")
    if len(found) > 1 and who not in found:
        raise InvalidRequest(f"{who} fits several people; write the whole id, as `kinolog users list --json` has it")
    return who if who in found else found.pop()


def _link(wanted: dict[str, str], *, as_json: bool) -> None:
    from infra.commands.support.admin_api import connected

    with connected() as api:
        made = api.post("/api/users/invitations", wanted)
    _print_link(made, as_json=as_json)


def _print_link(made: dict[str, Any], *, as_json: bool) -> None:
    from infra.runtime.settings import Settings

    link = _address(Settings.from_env(os.environ), made)
    if as_json:
        document(made | {"link": link})
        return
    line(link)
    note(f"good once, until {made['expires_at']}")


# --- tokens -----------------------------------------------------------------------------------------------------------


@tokens.command("make")
def make_token(
    name: Annotated[str, typer.Argument(help="Its use, for the list.")],
    right: Annotated[list[str], typer.Option(help="A right, as docs/reference/rights.md has them; can be repeated.")],
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Its life; default: until it is revoked.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a script; it is shown once.

    \b
    Examples:
      kinolog tokens make "nightly import" --right read --right upload --days 365
    """
    from infra.commands.support.admin_api import connected

    with connected() as api:
        made = api.post("/api/tokens", {"name": name, "rights": right, "life_s": days and days * 24 * 3600})
    if as_json:
        document(made)
        return
    line(made["token"])
    note("shown once; a script sends it as `Authorization: Bearer TOKEN`")


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List tokens, newest first, without their texts.

    \b
    Examples:
      kinolog tokens list
    """
    from infra.commands.support.admin_api import connected

    with connected() as api:
        rows = api.get("/api/tokens")["items"]
    table(
        rows,
        {
            "token": lambda row: short(row["token_id"]),
            "begins": lambda row: row["prefix"],
            "name": lambda row: row["name"],
            "rights": lambda row: " ".join(row["rights"]),
            "used": lambda row: moment(row["used_at"]),
            "expires": lambda row: moment(row["expires_at"]),
        },
        as_json=as_json,
        empty="no tokens",
    )


@tokens.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="Its id, or a part of it of at least eight characters.")],
    as_json: AsJson = False,
) -> None:
    """Refuse a token from now on; it stops working within two seconds.

    \b
    Examples:
      kinolog tokens revoke 9b6c1d04
    """
    from infra.commands.support.admin_api import connected, resource
    from projections.short_ids import fits

    with connected() as api:
        found = [one["token_id"] for one in api.get("/api/tokens")["items"] if fits(token, one["token_id"])]
        if len(found) != 1:
            raise NotFound(f"{'no' if not found else 'more than one'} token fits {token}; see: kinolog tokens list")
        api.post(resource("tokens", found[0], "revoke"))
    done("revoked", as_json=as_json)
