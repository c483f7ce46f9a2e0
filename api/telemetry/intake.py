"""Appends reports to the log. A report that is sent again after an unknown outcome is not appended twice.

The broker may go away with a batch in flight. Clients then get 503 and send the same `event_id` again, while the producer
still retries the batch. A bounded table keeps these ids: a repeated report waits for the outcome of the first. All other
repetitions are appended; readers drop them by id, for ever.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from events.envelope import Record
from events.errors import LogUnavailable
from events.topics import TELEMETRY, Topic
from producers.appender import Offsets, OutcomeUnknown
from producers.reports import Report, Second, records_of, second_of

DOUBTS_MAX = 100_000
AGAIN_S = 3.0
"""Maximum wait of a repeated report for the outcome of the first."""

Offer = Callable[[Topic, Sequence[Record]], "asyncio.Future[Offsets]"]


class Intake:
    """`offer` is `Appender.offer`; `now` returns the seconds since 1970, `new_id` a fresh id."""

    def __init__(self, offer: Offer, now: Callable[[], float], new_id: Callable[[], str], doubts_max: int = DOUBTS_MAX) -> None:
        self._offer = offer
        self._now = now
        self._second = second_of(0)
        self._second_ends = 0.0
        self._new_id = new_id
        self._doubts: dict[str, asyncio.Future[Offsets]] = {}
        self._doubts_max = doubts_max

    def begin(self, report: Report) -> "asyncio.Future[Any]":
        """Begin to append one report. The caller awaits the future and passes an unknown outcome to `noted`.

        Raises LogUnavailable.
        """
        if self._doubts and report.event_id in self._doubts:
            return asyncio.ensure_future(self.put((report,)))
        return self._offer(TELEMETRY, records_of((report,), self._this_second(), self._new_id))

    def noted(self, ids: Iterable[str], unknown: OutcomeUnknown) -> None:
        """Remember reports with an unknown outcome."""
        self._doubts.update(dict.fromkeys(ids, unknown.outcome))
        while len(self._doubts) > self._doubts_max:
            del self._doubts[next(iter(self._doubts))]

    async def put(self, reports: Sequence[Report]) -> None:
        """Append reports; return when all are on the log. Raises LogUnavailable: then the client sends them again."""
        if self._doubts:
            reports = await self._without_repeated(reports)
        if not reports:
            return
        ids = [report.event_id for report in reports if report.event_id is not None]
        try:
            await self._offer(TELEMETRY, records_of(reports, self._this_second(), self._new_id))
        except OutcomeUnknown as unknown:
            self.noted(ids, unknown)
            raise

    def _this_second(self) -> Second:
        """Return the present second, made once per second."""
        now = self._now()
        if not self._second_ends - 1 <= now < self._second_ends:
            self._second = second_of(now)
            self._second_ends = int(now) + 1
        return self._second

    async def _without_repeated(self, reports: Sequence[Report]) -> Sequence[Report]:
        """Return the reports that no earlier request has appended. Raises LogUnavailable while an outcome is unknown."""
        doubts = self._doubts
        repeated = {report.event_id: doubts[report.event_id] for report in reports if report.event_id in doubts}
        if not repeated:
            return reports
        outcomes = set(repeated.values())
        _, still_open = await asyncio.wait(outcomes, timeout=AGAIN_S)
        if still_open:
            raise LogUnavailable
        for event_id, outcome in repeated.items():
            if outcome.exception() is not None and event_id is not None:
                doubts.pop(event_id, None)
        return [report for report in reports if report.event_id not in repeated or report.event_id not in doubts]
