"""What the apps' routes have in common."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant

from tests.support.every_app import APPS


def calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """Yield what is called for a request: the route's function, and all that it depends on."""
    assert dependant.call is not None
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def dependants(app: Any) -> list[Dependant]:
    """Return what each route of an app calls, with what its routers add."""
    included = [route for route in app.routes if hasattr(route, "effective_route_contexts")]
    return [context.dependant for router in included for context in router.effective_route_contexts()]


@pytest.mark.parametrize("name", APPS)
def test_nothing_that_answers_a_request_waits_for_a_thread(name: str) -> None:
    """FastAPI calls a plain function on a thread: when `services` was one, 500 workers waited half as long again for theirs."""
    found = {call for dependant in dependants(APPS[name]()) for call in calls(dependant)}
    assert len(found) > 3
    plain = [call for call in found if not (inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__))]
    assert not plain
