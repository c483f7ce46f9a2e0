"""Errors of the whole system; each class's docstring is its message.

KinologError
├── InvalidEvent     a record that cannot be decoded: dead letter, with the reason
│   └── EventTooLarge
├── Retryable        a service is away or slow: bounded retries, then 503 or exit
│   ├── LogUnavailable
│   ├── ReaderLost
│   └── StoreUnavailable
├── PositionConflict another runner moved this projection's position
├── LogTruncated     the log starts after the needed position
├── Stalled          a loop hung and was cancelled
├── ObjectMissing    the store lacks an object that should be there
├── InvalidRequest   a person or client asked for something impossible: 4xx, with what to do
├── Unproven         a proof of identity was refused: 401
├── NotFound         no such video, job, rendition …: 404
│   └── Concealed    there is one, for others
└── Conflict         not in this state: 409
"""


class KinologError(Exception):
    """Something went wrong in Kinolog."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidEvent(KinologError):
    """A record on the log is not a valid event."""


class EventTooLarge(InvalidEvent):
    """The event has more bytes than fit into one record on the log."""


class Retryable(KinologError):
    """A service did not answer in time; try again."""


class LogUnavailable(Retryable):
    """The log did not acknowledge the events in time; nothing was accepted, try again."""


class ReaderLost(Retryable):
    """The client that reads the log will never read again: open another one."""


class PositionConflict(KinologError):
    """The stored position is not where this batch starts: another runner moved it."""


class LogTruncated(KinologError):
    """The log starts after the stored position: events that this fold needs are gone."""


class StoreUnavailable(Retryable):
    """The object store did not answer or refused the write; try again."""


class Stalled(KinologError):
    """A loop showed no sign of life for too long and was cancelled."""


class ObjectMissing(KinologError):
    """The object is not in the store."""


class ObjectChanged(KinologError):
    """The object is another than the one that was meant."""


class InvalidRequest(KinologError):
    """The request cannot be carried out as it stands; the message says what to do."""


class Unproven(KinologError):
    """The proof of identity is not accepted; `reason` is for the audit, the message for the person."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class NotFound(KinologError):
    """There is no such thing."""


class Concealed(NotFound):
    """There is such a thing, and the caller may not know it; `reason` is for the audit."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(KinologError):
    """The state of the thing does not allow this now; the message says why."""
