"""Routes of the admin app: settings that are changed while the platform runs."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from api.admin.models import CHANGED, Page, Reason
from api.admin.services import Given
from api.problems import documented
from events.text import Line, Prose
from projections.settings import Setting, SettingChange

routes = APIRouter(prefix="/api/settings", tags=["settings"])
Name = Annotated[Line, Path(max_length=100, description="A setting's name, as lease_s.")]
Version = Annotated[
    int | None, Query(ge=0, description="Refuse the change unless the setting has this version; left out: change it anyway.")
]


class Wanted(BaseModel, extra="forbid"):
    """The new value, as JSON or as the text that an environment variable would have, and why it is wanted."""

    value: Annotated[Line, Field(max_length=4000)] | bool | int | float = Field(examples=[90])
    reason: Prose = Field("", max_length=500, examples=["uploads over a slow line"])


@routes.get("", responses=documented(404))
async def list_settings(
    given: Given, category: Annotated[Line | None, Query(max_length=100, description="Only this category.")] = None
) -> Page[Setting]:
    """List the settings that may be changed here, each with its limits and the source of its value."""
    return Page(items=list(given.settings.listing(category)), next=None)


@routes.get("/{name}", responses=documented(404))
async def show_setting(given: Given, name: Name) -> Setting:
    """Show a setting."""
    return given.settings.shown(name)


@routes.get("/{name}/history", responses=documented(404))
async def setting_history(given: Given, name: Name) -> Page[SettingChange]:
    """List the latest changes of a setting, the last first."""
    return Page(items=list(given.settings.history(name)), next=None)


@routes.put("/{name}", responses=CHANGED)
async def change_setting(given: Given, name: Name, wanted: Wanted, version: Version = None) -> Setting:
    """Store a value. Every process applies it within two seconds, or at its next start where `starts` says so."""
    value = str(wanted.value).lower() if isinstance(wanted.value, bool) else str(wanted.value)
    return await given.settings.change(name, value, expected=version, reason=wanted.reason)


@routes.delete("/{name}", responses=CHANGED)
async def reset_setting(
    given: Given,
    name: Name,
    version: Version = None,
    reason: Annotated[Prose, Query(max_length=500, description="Why.")] = "",
) -> Setting:
    """Remove the stored value: the default is in force again."""
    return await given.settings.reset(name, expected=version, reason=reason)


@routes.post("/{name}/undo", responses=CHANGED)
async def undo_setting(given: Given, name: Name, why: Reason | None = None, version: Version = None) -> Setting:
    """Store again the value before the latest change, or remove the stored value when there was none."""
    return await given.settings.undo(name, expected=version, reason=why.reason if why else "")
