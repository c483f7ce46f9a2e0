"""A service that refuses its user, unlike one that is away: a sentence that says where to look, and no traceback."""

import asyncio
import shlex
import sys
from collections.abc import Sequence

from pydantic import SecretStr

from infra.commands.support.exits import ExitCode
from infra.runtime.refused_credentials import refusal
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


async def ended(settings: Settings, *words: str) -> tuple[int | None, str]:
    """Run a module of ours to its end; return its exit code and what it wrote to stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        cwd=ROOT,
        env=environment(settings),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def all_ended(settings: Settings, commands: Sequence[str]) -> dict[str, tuple[int | None, str]]:
    """Run commands side by side: most of them wait for an answer that does not come."""
    found = await asyncio.gather(*(ended(settings, *shlex.split(command)) for command in commands))
    return dict(zip(commands, found, strict=True))


async def test_a_command_says_that_kafka_refuses_it(settings: Settings) -> None:
    commands = ("events tail", "verify", "sql 'SELECT 1 FROM videos'", "rebuild catalog", "backup B")
    found = await all_ended(settings.model_copy(update=KAFKA), [f"infra.cli {command}" for command in commands])
    for command, (code, said) in found.items():
        assert code == ExitCode.REFUSED, (command, said)
        assert "refuses the user or the password" in said and "KINOLOG_KAFKA_PASSWORD" in said, command
        assert len(said.splitlines()) == 1, command


async def test_a_command_says_that_postgresql_refuses_it(settings: Settings) -> None:
    wrong = settings.model_copy(update=postgres(settings))
    for command, (code, said) in (await all_ended(wrong, ["infra.cli verify", "infra.cli rebuild catalog"])).items():
        assert code == ExitCode.REFUSED, (command, said)
        assert "PostgreSQL refuses KINOLOG_POSTGRES_URL" in said and len(said.splitlines()) == 1, command


async def test_a_program_says_that_kafka_refuses_it(settings: Settings) -> None:
    wrong = settings.model_copy(update={**KAFKA, "processors_port": free_ports(1)[0]})
    programs = ("processors", "processors dispatcher", "api admin", "workers 1")
    for program, (code, said) in (await all_ended(wrong, programs)).items():
        assert code == 1, (program, said)
        assert "Traceback" not in said and "refuses the user or the password" in said.splitlines()[-1], program
