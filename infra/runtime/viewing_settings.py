"""Settings of how streams become plays and days. Rows keep the rules with which they were made: `kinolog rebuild streams`."""

from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from infra.runtime.service_settings import at_start
from infra.runtime.transcoding_settings import TranscodingSettings

_RULE = at_start("viewing", "`kinolog rebuild streams`")


class ViewingSettings(TranscodingSettings, frozen=True, extra="forbid"):
    """The fourth part of the settings."""

    viewing_zone: str = Field(
        "UTC",
        max_length=64,
        pattern=r"^[A-Za-z0-9_+/-]+$",
        description="Time zone in which days of viewing begin, as Europe/Berlin.",
        json_schema_extra=at_start("viewing", "`kinolog rebuild streams` and `kinolog rebuild daily`"),
    )
    viewing_expiry_s: int = Field(
        90,
        ge=10,
        le=3600,
        description="Silence after which a stream has ended, seconds: three heartbeats.",
        json_schema_extra=_RULE,
    )
    viewing_play_min_s: int = Field(
        5,
        ge=0,
        le=3600,
        description="Shortest time watched that makes a play, seconds; half of a video that is shorter.",
        json_schema_extra=_RULE,
    )
    viewing_merge_back_s: int = Field(
        15,
        ge=0,
        le=86400,
        description="A stream that begins at most this far before the end of the viewer's last one of the video goes on with its "
        "play, seconds.",
        json_schema_extra=_RULE,
    )
    viewing_completed_percent: int = Field(
        90, ge=1, le=100, description="Share of a video from which on its play is completed, percent.", json_schema_extra=_RULE
    )

    @field_validator("viewing_zone")
    @classmethod
    def _the_zone_is_known(cls, name: str) -> str:
        try:
            return ZoneInfo(name).key
        except (ValueError, OSError, KeyError) as error:
            raise ValueError("must be a time zone, such as Europe/Berlin") from error
