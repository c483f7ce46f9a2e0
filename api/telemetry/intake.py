"""Puts reports on the log. One that comes again, because nobody could say whether it got there, is not put twice.

The broker may go away with a batch in flight: clients are told 503 and come again with the same `event_id`, while the
producer still repeats the batch. What became of such ids is kept here, bounded, so that they wait for that outcome
instead of being appended once more. Other repetitions go onto the log; readers drop them by id, for ever.
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
"""How long a repetition waits for the outcome of the first."""

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
        """Begin to put one report on the log; whoever waits for the future tells `noted` of an unknown outcome.

        Raises LogUnavailable.
        """
        if self._doubts and report.event_id in self._doubts:
            return asyncio.ensure_future(self.put((report,)))
        return self._offer(TELEMETRY, records_of((report,), self._this_second(), self._new_id))

    def noted(self, ids: Iterable[str], unknown: OutcomeUnknown) -> None:
        """Remember reports of which nobody knows yet whether they are on the log."""
        self._doubts.update(dict.fromkeys(ids, unknown.outcome))
        while len(self._doubts) > self._doubts_max:
            del self._doubts[next(iter(self._doubts))]

    async def put(self, reports: Sequence[Report]) -> None:
        """Return when all are on the log. Raises LogUnavailable: then the client repeats them."""
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
        """Return the present second, made once for all who ask within it."""
        now = self._now()
        if not self._second_ends - 1 <= now < self._second_ends:
            self._second = second_of(now)
            self._second_ends = int(now) + 1
        return self._second

    async def _without_repeated(self, reports: Sequence[Report]) -> Sequence[Report]:
        """Return the reports that are not on the log by an earlier request. Raises LogUnavailable while that is open."""
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
