"""A service that refuses its user is told from one that is away: a sentence that says what to look at, and no traceback."""

import subprocess
import sys

import pytest
from pydantic import SecretStr

from infra.commands.support.exits import ExitCode
from infra.runtime.refusals import refusal
from infra.runtime.settings import Settings
from tests.support.engine import free_ports
from tests.support.platform import ROOT, environment

KAFKA = {"kafka_password": SecretStr("guessed")}


def postgres(settings: Settings) -> dict[str, object]:
    """Settings with another password in the address of PostgreSQL."""
    scheme, _, rest = settings.postgres_url.get_secret_value().partition("://")
    return {"postgres_url": SecretStr(f"{scheme}://kinolog:guessed@{rest.rpartition('@')[2]}")}


def test_a_service_that_takes_its_user_or_is_away_refuses_nobody(engine: Settings) -> None:
    assert refusal(engine) is None
    (port,) = free_ports(1)
    nobody = {"kafka_bootstrap": f"127.0.0.1:{port}", "postgres_url": SecretStr(f"postgresql://kinolog@127.0.0.1:{port}/postgres")}
    assert refusal(engine.model_copy(update=nobody)) is None


@pytest.mark.parametrize("command", ["events tail", "verify", "sql 'SELECT 1 FROM videos'", "rebuild catalog", "backup B"])
def test_a_command_says_that_kafka_refuses_it(settings: Settings, command: str) -> None:
    wrong = settings.model_copy(update=KAFKA)
    done = subprocess.run(
        f"{sys.executable} -m infra.cli {command}", shell=True, cwd=ROOT, env=environment(wrong), capture_output=True, text=True
    )
    assert done.returncode == ExitCode.REFUSED, done.stderr
    assert "refuses the user or the password" in done.stderr and "KINOLOG_KAFKA_PASSWORD" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["verify", "rebuild catalog"])
def test_a_command_says_that_postgresql_refuses_it(settings: Settings, command: str) -> None:
    wrong = settings.model_copy(update=postgres(settings))
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", *command.split()], cwd=ROOT, env=environment(wrong), capture_output=True, text=True
    )
    assert done.returncode == ExitCode.REFUSED, done.stderr
    assert "PostgreSQL refuses KINOLOG_POSTGRES_URL" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("program", ["processors", "processors dispatcher", "api admin", "workers 1"])
def test_a_program_says_that_kafka_refuses_it(settings: Settings, program: str) -> None:
    wrong = settings.model_copy(update={**KAFKA, "processors_port": free_ports(1)[0]})
    done = subprocess.run(
        [sys.executable, "-m", *program.split()], cwd=ROOT, env=environment(wrong), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "refuses the user or the password" in done.stderr.splitlines()[-1]
