"""Addresses of the services: from the settings, else the local engine's."""

from pydantic import SecretStr

from infra.local.engine import access, objects, postgres
from infra.runtime.settings import Settings


def resolve(settings: Settings, user: str = access.OPERATOR) -> Settings:
    """Return the settings; empty service addresses become the local engine's, with its passwords after the first start.

    `user` is the local Kafka's user for the program.
    """
    found: dict[str, object] = {}
    if not settings.kafka_bootstrap:
        settings = access.as_user(settings, user)
        found["kafka_bootstrap"] = f"127.0.0.1:{settings.kafka_port}"
    if not settings.postgres_url.get_secret_value() and (secret := postgres.password(settings)) is not None:
        found["postgres_url"] = SecretStr(f"postgresql://kinolog:{secret}@127.0.0.1:{settings.postgres_port}/postgres")
    if not settings.s3_endpoint:
        found["s3_endpoint"] = f"http://127.0.0.1:{settings.s3_port}"
        found["s3_secret_key"] = SecretStr(objects.secret(settings) or "")
    return settings.model_copy(update=found)
