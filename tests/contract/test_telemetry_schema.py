"""The telemetry app does what its OpenAPI document says, whatever is sent: requests made from the document, by schemathesis."""

import re
from typing import Any

import schemathesis
from hypothesis import settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.telemetry import Log, make

load_all_checks()
schema = schemathesis.openapi.from_asgi("/openapi.json", make(Log()))
BEYOND = re.compile(
    r"the [\w ']+ (looks like |has a character that cannot be shown|has the network address|must be a whole number"
    r"|has nothing but marks of direction)"
)
"""No schema can say what a text must not look like, nor that 1.0 is no integer, as it was none to the predecessor."""


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Send any text as it is."""
    return str(value).encode(errors="replace")


@schema.parametrize()
@settings(max_examples=150, deadline=None)
def test_every_answer_is_as_described(case: schemathesis.Case[Any]) -> None:
    response = case.call()
    refused = response.status_code == 422 and BEYOND.match(response.json()["detail"])
    case.validate_response(response, excluded_checks=[positive_data_acceptance] if refused else [])
