"""Leases, extended by a worker's signs of life."""

from api.worker.decisions import Holding
from api.worker.services import Services
from events.clock import Context
from events.envelope import Envelope, Event
from producers.workers import lease_renewed

REMEMBERED_MAX = 10_000


def renewals(given: Services, context: Context, holding: Holding) -> list[Envelope[Event]]:
    """Return the renewal of a lease when the last one is old enough: not every tick and file makes one."""
    claim = holding.job_id, holding.epoch
    now_s = context.now.timestamp()
    if now_s - given.renewed.get(claim, 0.0) < given.options.renew_every.total_seconds():
        return []
    given.renewed.pop(claim, None)
    given.renewed[claim] = now_s
    while len(given.renewed) > REMEMBERED_MAX:
        del given.renewed[next(iter(given.renewed))]
    assert holding.worker_id is not None, "a job that is held has a holder"
    return [lease_renewed(context, job_id=holding.job_id, pool=holding.pool, worker_id=holding.worker_id, epoch=holding.epoch)]
