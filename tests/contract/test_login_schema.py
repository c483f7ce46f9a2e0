"""The ways to log in do what their OpenAPI document says, whatever is sent, with a session and without one, by schemathesis."""

from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.house import SESSION, build, nobody

load_all_checks()
schema = schemathesis.openapi.from_asgi("/openapi.json", build("http://localhost:9001", nobody).app)


@pytest.mark.parametrize("session", ["id-of-anna", ""])
@schema.parametrize()
@settings(max_examples=60, deadline=None)
def test_every_answer_is_as_described(case: schemathesis.Case[Any], session: str) -> None:
    case.cookies = {SESSION: session} if session else {}
    response = case.call()
    refused = response.status_code in (401, 404, 409, 422)  # a code, a credential, or an account that nobody has
    case.validate_response(response, excluded_checks=[positive_data_acceptance] if refused else [])
