"""A machine's membership of a platform: address, worker id and key, in a file that only its owner can read."""

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

from events.errors import KinologError

FILE = "membership.json"


class NoMember(KinologError):
    """This machine has not joined yet; say --join URL --token TOKEN once."""


@dataclass(frozen=True)
class Membership:
    """The answer to the machine's request to join."""

    url: str
    worker_id: str
    key: str = field(repr=False)

    def save(self, directory: Path) -> None:
        """Write the membership to a file that only the owner can read, completely or not at all."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = directory / f"{FILE}.new"
        fresh.unlink(missing_ok=True)
        with open(fresh, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> "Membership":
        """Read the membership. Raises NoMember when there is none, or when other users could have read it."""
        path = directory / FILE
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise NoMember(f"{path} can be read by others; join again, and keep it at mode 600")
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise NoMember() from error
