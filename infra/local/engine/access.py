"""Users and rights on Kafka: a user per program with a password of its own.

The local broker asks for SCRAM-SHA-512, so that neither side learns the other's password, and refuses requests that no rule allows.
The passwords are made at the first start and lie in `var/run/kafka.passwords`, mode 0600. `provide` brings the broker up to date at
every start; `provide_outside` does the same for another Kafka, with given passwords. The public app reads
only the topics that it follows, and writes only the requests that it refused.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from events.errors import InvalidRequest, LogUnavailable
from events.topics import TOPICS
from infra.runtime import kafka
from infra.runtime.folders import private_file, private_folder
from infra.runtime.settings import Settings

ENGINE, OPERATOR = "engine", "operator"
"""The broker itself, with every right; the command line, with every right to the installation's topics."""
WRITES: Mapping[str, tuple[str, ...]] = {
    "admin": ("admin app",),
    "public": ("public app",),
    "worker-app": ("worker app",),
    "telemetry": ("telemetry app",),
    "processors": ("planning", "announcing", "deliverer", "chores", "archiver"),
    "dispatcher": ("dispatcher",),
    "worker": ("workers",),
}
"""Program -> its names among the producers of a topic. Every one of them reads every topic, except those of READS."""
READS: Mapping[str, tuple[str, ...]] = {"public": ("every program", "public app")}
"""Program -> its names among the consumers of the topics that it may read: anybody may reach its port."""
GROUPS: Mapping[str, str] = {"processors": "kinolog.", "dispatcher": "kinolog."}
"""Program -> prefix of its consumer groups and transactional ids."""
BURIES = ("processors", "dispatcher")
"""Programs that write dead letters."""
USERS = (ENGINE, OPERATOR, *WRITES)
ITERATIONS = 4096
"""SCRAM's iterations; few suffice, because the passwords are random, 192 bits."""
REQUEST_S = 30.0
ANYTHING: Any = (ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)


def passwords_file(settings: Settings) -> Path:
    """Return the path of the passwords."""
    return settings.var_dir / "run" / "kafka.passwords"


def _known(settings: Settings) -> Path:
    """The file whose presence means that the broker knows the engine's password."""
    return settings.var_dir / "run" / "kafka.provided"


def passwords(settings: Settings) -> Mapping[str, str]:
    """Return the password of each user, none before the first start."""
    try:
        return dict(json.loads(passwords_file(settings).read_text()))
    except FileNotFoundError:
        return {}


def ensure_passwords(settings: Settings) -> Mapping[str, str]:
    """Return the password of each user; make those that are missing."""
    there = passwords(settings)
    if missing := [name for name in USERS if name not in there]:
        there = {**there, **{name: secrets.token_urlsafe(24) for name in missing}}
        if ENGINE in missing:
            _known(settings).unlink(missing_ok=True)
        path = passwords_file(settings)
        private_folder(path.parent)
        unfinished = path.with_suffix(".new")
        private_file(unfinished, json.dumps(there))
        unfinished.replace(path)
    return there


def is_provided(settings: Settings) -> bool:
    """Return whether the broker knows the engine's password."""
    return _known(settings).exists()


def note_provided(settings: Settings) -> None:
    """Remember that the broker knows the engine's password."""
    private_file(_known(settings), "")


def as_user(settings: Settings, user: str) -> Settings:
    """Return the settings with which a user of the local Kafka reaches it; unchanged for one that has no password (yet)."""
    password = passwords(settings).get(user)
    if password is None:
        return settings
    return settings.model_copy(
        update={
            "kafka_security": "sasl_plaintext",
            "kafka_mechanism": "SCRAM-SHA-512",
            "kafka_user": user,
            "kafka_password": SecretStr(password),
        }
    )


def rights(prefix: str, users: Collection[str] = USERS) -> Iterator[AclBinding]:
    """Yield the rights of some users on the topics, groups and transactions of an installation. Pure."""
    return (right for right in _every_right(prefix) if right.principal.removeprefix("User:") in users)


def _every_right(prefix: str) -> Iterator[AclBinding]:
    for user in WRITES:
        if user in READS:
            named = [topic for topic in TOPICS.values() if set(READS[user]) & set(topic.consumers)]
            yield from (_on(ResourceType.TOPIC, prefix + topic.name, user, AclOperation.READ) for topic in named)
        else:
            yield _under(ResourceType.TOPIC, prefix, user, AclOperation.READ)  # which allows to describe
        yield _on(ResourceType.GROUP, kafka.NO_GROUP, user, AclOperation.READ)
        for topic in TOPICS.values():
            if set(WRITES[user]) & set(topic.producers):
                yield _on(ResourceType.TOPIC, prefix + topic.name, user, AclOperation.WRITE)
            if user in BURIES:
                yield _on(ResourceType.TOPIC, prefix + topic.dead_letters, user, AclOperation.WRITE)
    for user, of_user in GROUPS.items():
        yield _under(ResourceType.GROUP, prefix + of_user, user, AclOperation.READ)
        yield _under(ResourceType.TRANSACTIONAL_ID, prefix + of_user, user, AclOperation.WRITE)
    yield _on(ResourceType.GROUP, kafka.NO_GROUP, OPERATOR, AclOperation.READ)
    for resource in (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID):
        yield _under(resource, prefix, OPERATOR, AclOperation.ALL)


def _on(resource: ResourceType, name: str, user: str, operation: AclOperation) -> AclBinding:
    pattern = ResourcePatternType.LITERAL
    return AclBinding(resource, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def _under(resource: ResourceType, prefix: str, user: str, operation: AclOperation) -> AclBinding:
    """Return a right to everything whose name begins so, to everything for the empty prefix."""
    if not prefix:
        return _on(resource, "*", user, operation)
    pattern = ResourcePatternType.PREFIXED
    return AclBinding(resource, prefix, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def provide(settings: Settings) -> None:
    """Bring users, rights and topics of the local Kafka up to date; it must be running. Raises LogUnavailable.

    `settings` name no other Kafka. A broker from before there were passwords receives them over PLAIN, which it offers only then.
    """
    engine = as_user(settings, ENGINE).model_copy(update={"kafka_bootstrap": f"127.0.0.1:{settings.kafka_port}"})
    first = engine if is_provided(settings) else engine.model_copy(update={"kafka_mechanism": "PLAIN"})
    with _asking():
        _ensure_users(first, passwords(settings))
        note_provided(settings)
        ensure_rights(engine)
    _ensure_topics(engine)


def provide_outside(owner: Settings) -> Sequence[str]:
    """Give the programs users, rights and topics at the Kafka of the settings; return the users. The settings' user may do that.

    Raises LogUnavailable, and InvalidRequest when `kafka_passwords` are none, or name a user that no program has.
    """
    known = dict(item.strip().partition("=")[::2] for item in owner.kafka_passwords.get_secret_value().split(",") if item.strip())
    names = [name for name in USERS if name not in (ENGINE, owner.kafka_user)]
    if not owner.kafka_bootstrap or not known or not all(known.values()) or not set(known) <= set(names):
        raise InvalidRequest(
            f"set KINOLOG_KAFKA_BOOTSTRAP, and KINOLOG_KAFKA_PASSWORDS to USER=PASSWORD, comma separated, of: {', '.join(names)}"
        )
    with _asking():
        _ensure_users(owner, known)
        ensure_rights(owner, set(rights(owner.topic_prefix, known)), known)
    _ensure_topics(owner)
    return sorted(known)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise LogUnavailable(f"Kafka did not take its users and their rights: {error.args[0].str()}") from error


def _ensure_topics(owner: Settings) -> None:
    with ThreadPoolExecutor(1) as beside:  # the caller may have an event loop of its own
        beside.submit(asyncio.run, kafka.ensure_topics(owner)).result()


def _ensure_users(engine: Settings, known: Mapping[str, str]) -> None:
    admin, scram = _admin(engine), ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    wanted = [UserScramCredentialUpsertion(name, scram, password.encode()) for name, password in known.items()]
    for done in admin.alter_user_scram_credentials([*wanted], request_timeout=REQUEST_S).values():
        done.result()


def ensure_rights(engine: Settings, wanted: Set[AclBinding] | None = None, users: Collection[str] = USERS) -> None:
    """Grant the users their rights under the settings' prefix, and revoke all others under it.

    Returns when the broker applies them, a moment after its controller.
    """
    admin, prefix = _admin(engine), engine.topic_prefix
    wanted = set(rights(prefix)) if wanted is None else wanted
    missing, outdated = _changes(admin, prefix, wanted, users)
    if missing:
        for created in admin.create_acls([*missing], request_timeout=REQUEST_S).values():
            created.result()
    if outdated:
        for deleted in admin.delete_acls([_exactly(acl) for acl in outdated], request_timeout=REQUEST_S).values():
            deleted.result()
    deadline = time.monotonic() + REQUEST_S
    while (missing or outdated) and any(_changes(admin, prefix, wanted, users)):
        if time.monotonic() > deadline:
            raise LogUnavailable("Kafka does not go by the rights of its users")
        time.sleep(0.01)


def _changes(
    admin: AdminClient, prefix: str, wanted: Set[AclBinding], users: Collection[str]
) -> tuple[Set[AclBinding], Set[AclBinding]]:
    """Return the missing rights and the outdated ones."""
    found = admin.describe_acls(AclBindingFilter(*ANYTHING), request_timeout=REQUEST_S).result()
    there = {acl for acl in found if acl.principal.removeprefix("User:") in users}
    return wanted - there, {acl for acl in there if acl.name.startswith(prefix)} - wanted


def _exactly(acl: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host, acl.operation, acl.permission_type
    )


def _admin(settings: Settings) -> AdminClient:
    return AdminClient(kafka.librdkafka(settings), logger=kafka.LOGGER)
