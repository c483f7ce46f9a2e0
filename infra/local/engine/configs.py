"""Configuration files and command lines of the local engine. Pure: settings in, text out."""

from dataclasses import dataclass
from pathlib import Path

from infra.runtime.settings import Settings

JARS = Path(__file__).parent / "jars"
DATABASE_USER = "kinolog"
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:MaxMetaspaceSize=128m", "-XX:ReservedCodeCacheSize=64m")
"""Small and quiet: one collector thread, no optimising compiler. These servers move bytes, they do not compute; the optimiser
took half a core for minutes after each start while others waited for that core, and half of an idle Kafka's processor time.
"""
HEAP = ("-XX:MinHeapFreeRatio=10", "-XX:MaxHeapFreeRatio=20")
KAFKA_JVM = (*JVM, "-Xms128m", "-Xmx512m", *HEAP)


@dataclass(frozen=True, slots=True)
class Directories:
    """Directories of the engine's data; `postgres` may lie outside `var_dir` (see postgres.data_directory)."""

    var: Path
    kafka: Path
    objects: Path
    run: Path
    logs: Path


def directories(settings: Settings) -> Directories:
    """Return the engine's directories."""
    var = settings.var_dir
    return Directories(var, var / "kafka", var / "objects", var / "run", var / "log")


def kafka_properties(settings: Settings, data: Path, password: str, *, provided: bool = True) -> str:
    """Return server.properties: KRaft, broker and controller in one, one replica, no topics by accident, users with rights only.

    `password` is the one of the user `engine`, which the broker is to itself. Controllers keep no SCRAM secrets, so theirs is
    PLAIN; they speak only among themselves. Not yet `provided` with the engine's SCRAM secret, the broker takes it over PLAIN.
    """
    host, engine = "127.0.0.1", f'required username="engine" password="{password}"'
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule {engine} user_engine="{password}";'
    scram = f"org.apache.kafka.common.security.scram.ScramLoginModule {engine};"
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{host}:{settings.kafka_controller_port}",
        "listeners": f"CLIENTS://{host}:{settings.kafka_port},CONTROLLER://{host}:{settings.kafka_controller_port}",
        "advertised.listeners": f"CLIENTS://{host}:{settings.kafka_port}",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENTS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512" if provided else "SCRAM-SHA-512,PLAIN",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512" if provided else "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "listener.name.clients.scram-sha-512.sasl.jaas.config": scram,
        **({} if provided else {"listener.name.clients.plain.sasl.jaas.config": plain}),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:engine",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "log.segment.bytes": str(256 << 20),
        "message.max.bytes": str(4 << 20),
        "replica.fetch.max.bytes": str(4 << 20),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def kafka_command(properties: Path) -> list[str]:
    """Return the broker's command line; it logs to standard output, warnings and worse."""
    return [
        "java",
        *KAFKA_JVM,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        str(JARS / "kafka" / "*"),
        "kafka.Kafka",
        str(properties),
    ]


def kafka_format_command(properties: Path, cluster_id: str, secrets: Path) -> list[str]:
    """Return the command that formats Kafka's data directory once; `secrets` is a file with `kafka_secrets`."""
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties), "--ignore-formatted", f"@{secrets}"]
    return ["java", "-cp", str(JARS / "kafka" / "*"), *tool]


def kafka_secrets(password: str) -> str:
    """Return the secret arguments of the format command; other users of this machine could read its command line."""
    return f"--add-scram\nSCRAM-SHA-512=[name=engine,password={password}]\n"


def objects_properties(settings: Settings, data: Path, secret: str) -> str:
    """Return s3proxy.conf: a directory as a store, signed requests only, open to browsers."""
    values = {
        "s3proxy.endpoint": f"http://127.0.0.1:{settings.s3_port}",
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": settings.s3_access_key,
        "s3proxy.credential": secret,
        "s3proxy.cors-allow-all": "true",
        "s3proxy.v4-max-non-chunked-request-size": str(64 << 20),
        "jclouds.provider": "filesystem",
        "jclouds.filesystem.basedir": str(data),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


LOGBACK = """<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601,UTC} %-5level %logger{24} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="console"/></root>
</configuration>
"""


def objects_command(properties: Path, logback: Path) -> list[str]:
    """Return the object store's command line."""
    heap = ("-Xms32m", "-Xmx256m", "-XX:MaxDirectMemorySize=64m", *HEAP)
    main = ("-cp", str(JARS / "objects" / "*"), "org.gaul.s3proxy.Main", "--properties", str(properties))
    return ["java", *JVM, *heap, f"-Dlogback.configurationFile={logback}", *main]


def postgres_command(binaries: Path, data: Path, settings: Settings) -> list[str]:
    """Return the database server's command line: loopback only, no socket file, modest memory."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(settings.postgres_port),
        "unix_socket_directories": "",
        "shared_buffers": "96MB",
        "max_connections": "100",
        "work_mem": "16MB",
        "maintenance_work_mem": "64MB",
        "max_wal_size": "1GB",
        "password_encryption": "scram-sha-256",
        "log_min_messages": "warning",
        "timezone": "UTC",
        "jit": "off",
    }
    return [
        str(binaries / "postgres"),
        "-D",
        str(data),
        *(arg for name, value in options.items() for arg in ("-c", f"{name}={value}")),
    ]
