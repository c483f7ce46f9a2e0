"""Settings of where data lies and how services are reached. They are needed before the log can be read, so none is stored on it."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, FilePath, JsonValue, SecretStr, field_validator, model_validator

Port = Annotated[int, Field(ge=1, le=65535)]


def http_url(text: str) -> str:
    """Return the text. Raises ValueError unless it is an http(s):// URL with a host and, maybe, a port."""
    try:
        url = urlsplit(text)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and len(text.split()) == 1
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("must be a URL, such as http://host:9000")
    return text


def live(category: str) -> dict[str, JsonValue]:
    """Mark a setting that may be stored, and takes effect at once in every process."""
    return {"category": category, "starts": ""}


def at_start(category: str, programs: str) -> dict[str, JsonValue]:
    """Mark a setting that may be stored, and takes effect at the next start of these programs."""
    return {"category": category, "starts": programs}


class ServiceSettings(BaseModel, frozen=True, extra="forbid"):
    """The first part of the settings."""

    # Data
    var_dir: Annotated[Path, AfterValidator(Path.resolve)] = Field(
        Path("var"),
        validate_default=True,
        description="Data, logs and tokens of the local platform (git-ignored). Relative to the working directory, or to the "
        "TOML file that sets it.",
    )

    # Services: empty means that the local engine provides it
    kafka_bootstrap: str = Field("", description="host:port[,host:port] of Kafka; empty uses the local engine.")
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="With kafka_bootstrap: protocol of that Kafka; ssl is TLS, sasl_plaintext a user, sasl_ssl both."
    )
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="With kafka_user: SASL mechanism; PLAIN sends the password."
    )
    kafka_user: str = Field("", description="User at the Kafka of kafka_bootstrap; the local engine has a user per program.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Password of kafka_user.")
    kafka_passwords: SecretStr = Field(
        SecretStr(""),
        description="For `kinolog engine provide` alone: the password of each program's user at the Kafka of kafka_bootstrap, as "
        "admin=…,worker=….",
    )
    kafka_ca: FilePath | None = Field(
        None, description="PEM file of the authority that signed that Kafka's certificate; empty: this machine's trusted ones."
    )
    postgres_url: SecretStr = Field(SecretStr(""), description="postgresql:// URL; empty uses the local engine.")
    s3_endpoint: str = Field("", description="http(s)://host:port of an S3 store; empty uses the local engine.")
    s3_public_endpoint: str = Field("", description="Address of the S3 store for browsers; empty: same as s3_endpoint.")
    s3_access_key: str = Field("kinolog", description="S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key; empty: the local engine's own.")
    s3_bucket: str = Field("kinolog", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="The one bucket.")
    s3_region: str = Field("us-east-1", description="Region used in S3 signatures.")
    kafka_port: Port = Field(9092, description="Local engine: Kafka's port.")
    kafka_controller_port: Port = Field(9093, description="Local engine: port of the KRaft controller.")
    postgres_port: Port = Field(5433, description="Local engine: PostgreSQL's port.")
    s3_port: Port = Field(9010, description="Local engine: the object store's port.")
    kafka_replication: int = Field(1, ge=1, le=5, description="Replicas of every topic; 3 on a cluster.")
    topic_prefix: str = Field("", max_length=60, pattern=r"^[a-z0-9.-]*$", description="Prefix of every topic name.")

    @field_validator("var_dir", mode="before")
    @classmethod
    def _the_folder_is_named(cls, value: object) -> object:
        """Refuse the empty text of a variable without a value: it would be the working directory."""
        if value == "":
            raise ValueError("is empty; name a folder")
        return value

    @field_validator("postgres_url")
    @classmethod
    def _the_database_is_named(cls, secret: SecretStr) -> SecretStr:
        """Refuse a text that psycopg cannot parse; the sentence does not repeat it, because it may have a password."""
        if (text := secret.get_secret_value()) and not text.startswith(("postgresql://", "postgres://")) and "=" not in text:
            raise ValueError("must be a URL, such as postgresql://user:password@host/database")
        return secret

    @model_validator(mode="after")
    def _an_outside_store_has_a_key(self) -> Self:
        """Refuse an empty signing key."""
        if self.s3_endpoint and not self.s3_secret_key.get_secret_value():
            raise ValueError("s3_endpoint requires s3_secret_key, the secret key of that store")
        return self

    @model_validator(mode="after")
    def _kafka_is_reachable_as_described(self) -> Self:
        """Refuse unused and missing credentials."""
        with_user, with_tls = self.kafka_security.startswith("sasl"), self.kafka_security.endswith("ssl")
        secret = self.kafka_password.get_secret_value()
        if not self.kafka_bootstrap and (self.kafka_security != "plaintext" or self.kafka_user or secret or self.kafka_ca):
            raise ValueError(
                "kafka_security, kafka_user, kafka_password and kafka_ca are for the Kafka of kafka_bootstrap: name it"
            )
        if with_user and not (self.kafka_user and secret):
            raise ValueError(f"kafka_security={self.kafka_security} requires kafka_user and kafka_password")
        if not with_user and (self.kafka_user or secret):
            raise ValueError("kafka_user and kafka_password require kafka_security=sasl_ssl (or sasl_plaintext, without TLS)")
        if self.kafka_ca and not with_tls:
            raise ValueError("kafka_ca requires kafka_security=ssl or sasl_ssl")
        return self
