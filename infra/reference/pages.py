"""The pages of docs/reference/, written from the code: vocabulary, topics, settings, command line, metrics. All pure."""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from prometheus_client import Counter, Gauge, Histogram

from api.rights import ROUTES
from events.envelope import Event, Value
from events.kinds import KINDS
from events.topics import DAY_MS, FOR_EVER, TOPICS, Topic
from infra.commands.support.exits import ExitCode
from infra.reference.schemas import examples_of
from infra.runtime import metrics as declared_metrics
from infra.runtime.settings import PREFIX, Settings
from projections.people.rights import RIGHTS, ROLES

GENERATED = "<!-- Written by `kinolog docs` from the code. Do not edit: a test compares. -->\n"


def events_page(root: Path) -> str:
    """Return the page of every event, topic by topic, and of the values inside them."""
    lines = [
        GENERATED,
        "# Events\n",
        "Every fact and request that can be on the log. Around each goes the same [envelope](../../events/schemas/envelope.json)",
        "(CloudEvents 1.0); below are the fields of its `data`. A field with a default may be left out. How events may change:",
        "[CONTRIBUTING](../../CONTRIBUTING.md#an-event).\n",
    ]
    values: dict[str, type[Value]] = {}
    for topic in TOPICS.values():
        lines += [f"## Topic `{topic.name}`\n", f"{topic.description} Key: `{topic.key}`.\n"]
        for event in topic.events:
            links = [f"[schema](../../events/schemas/{event.TYPE}.json)"]
            links += [f"[example: {path.stem}](../../{path})" for path in examples_of(event, root)]
            lines += [f"### {event.__name__}\n", f"`{event.TYPE}` · {' · '.join(links)}\n", f"{_words(event)}\n"]
            lines += [*_fields_table(event), ""]
            for value in values_in(event):
                values.setdefault(value.__name__, value)
    lines += ["## Values inside events\n"]
    for name in sorted(values):
        lines += [f"### {name}\n", f"{_words(values[name])}\n", *_fields_table(values[name]), ""]
    return _page(lines)


def topics_page() -> str:
    """Return the page of every topic."""
    lines = [
        GENERATED,
        "# Topics\n",
        "A topic that `events/topics.py` does not declare does not exist. Each has a dead-letter topic, `<name>.dead`, for records",
        "that could not be decoded or folded, with topic, partition, offset and reason. All names get `KINOLOG_TOPIC_PREFIX`.",
        "Machine-readable: [asyncapi.json](../asyncapi.json).\n",
        "| topic | key | partitions | kept | written by | read by |",
        "|---|---|---|---|---|---|",
    ]
    for topic in TOPICS.values():
        cells = (
            f"[`{topic.name}`](#{topic.name})",
            f"`{topic.key}`",
            str(topic.partitions),
            _kept(topic),
            ", ".join(topic.producers),
            ", ".join(topic.consumers),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for topic in TOPICS.values():
        lines += [f"## {topic.name}\n", f"{topic.description}\n"]
        lines += [f"- [{event.__name__}](events.md#{event.__name__.lower()}) `{event.TYPE}`" for event in topic.events]
        lines.append("")
    return _page(lines)


def rights_page() -> str:
    """Return the page of roles, rights and the right of each route."""
    lines = [
        GENERATED,
        "# Roles and rights\n",
        "A role is a set of rights; a token has some of its maker's. [Page 32](../adr/0032-people.md) has the reasons.\n",
        f"| right | to | {' | '.join(ROLES)} |",
        f"|---|---|{'---|' * len(ROLES)}",
    ]
    for right, allows in RIGHTS.items():
        cells = ("yes" if right in rights else "" for rights in ROLES.values())
        lines.append(f"| `{right}` | {allows} | {' | '.join(cells)} |")
    lines += [
        "",
        "The public app is for anybody; the worker app asks for a worker's key, the telemetry app for nothing.",
        "`open` is for anybody, `session` for people who have logged in and for no token;",
        "`metrics` asks for `KINOLOG_METRICS_TOKEN`, away from this machine.\n",
        "| request to the admin app | right |",
        "|---|---|",
        *(f"| `{route}` | `{right}` |" for route, right in ROUTES.items()),
    ]
    return _page(lines)


def kinds_page() -> str:
    """Return the page of every kind of work."""
    lines = [
        GENERATED,
        "# Kinds of work\n",
        "A job is of one kind. Workers claim those that they have a slot for (`KINOLOG_WORKER_SLOTS`). Stage: of its failures.",
        "Weight: its percent of a video's progress. Objects: whether it keeps any, below `videos/VIDEO/JOB/EPOCH/`. Parts: whether",
        "a long result is reported in several. Light: whether a worker without named slots does it beside an encoding.\n",
        "| kind | what | spec | result | stage | weight | objects | parts | light |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, kind in KINDS.items():
        cells = (
            f"`{name}`",
            (kind.spec.__doc__ or "").partition("\n")[0],
            *(f"[{model.__name__}](events.md#{model.__name__.lower()})" for model in (kind.spec, kind.result)),
            kind.stage,
            f"{kind.weight:g}",
            "yes" if kind.keeps_objects else "no",
            "yes" if kind.in_parts else "no",
            "yes" if kind.light else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return _page(lines)


def settings_page() -> str:
    """Return the page of every setting."""
    lines = [
        GENERATED,
        "# Settings\n",
        f"Read from environment variables, over the TOML file that `{PREFIX}CONFIG` names (same names, lower case, without the",
        "prefix), over the defaults. `kinolog config check` names each wrong one; `kinolog config show` prints all.\n",
        "Settings with an entry under *stored* can also be changed while the platform runs: `kinolog settings set`. The entry says",
        "when a change takes effect. The environment is before the stored value, and that before the default.\n",
        "| variable | type | default | stored | what |",
        "|---|---|---|---|---|",
        f"| `{PREFIX}CONFIG` | path | – | – | The TOML file. |",
    ]
    properties = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        default = properties[name].get("default")
        shown = "–" if default in ("", None) or "secret" in name else f"`{_plain(default)}`"
        extra = field.json_schema_extra
        starts = extra.get("starts") if isinstance(extra, dict) else None
        stored = "–" if starts is None else f"next start of {starts}" if starts else "at once"
        cells = (f"`{PREFIX}{name.upper()}`", _limited(field.annotation, properties[name]), shown, stored, field.description or "")
        lines.append(f"| {' | '.join(cells)} |")
    return _page(lines)


def cli_page(root: Any) -> str:
    """Return the page of a command and of all below it, as their `--help` has it."""
    lines = [
        GENERATED,
        "# The `kinolog` command\n",
        "Answers go to standard output, messages to standard error. Reading commands and `ingest` talk to the admin app and",
        "work from any machine with `KINOLOG_ADMIN_URL` and `KINOLOG_ADMIN_TOKEN`; `events`, `projections`, `rebuild` and",
        "`verify` talk to Kafka and PostgreSQL; `engine`, `up`, `down`, `status` and `worker` are for the machine they run on.\n",
        "## Exit codes\n",
        "| code | name | meaning |",
        "|---|---|---|",
        *(f"| {code.value} | `{code.name}` | {code.meaning} |" for code in ExitCode),
        "",
    ]
    for path, command in commands(root, ("kinolog",)):
        words = _help_text(command)
        lines += [f"## {' '.join(path)}\n", f"{words.partition('Exit codes:')[0].rstrip()}\n"]
        parameters = [parameter for parameter in command.params if parameter.name not in _COMPLETION]
        if parameters:
            lines += ["| argument or option | default | what |", "|---|---|---|"]
            lines += [_parameter_row(parameter) for parameter in parameters]
            lines.append("")
    return _page(lines)


_COMPLETION = frozenset({"install_completion", "show_completion"})


def metrics_page() -> str:
    """Return the page of every metric of ours."""
    lines = [
        GENERATED,
        "# Metrics\n",
        "Every process shows these at `/metrics`, in the Prometheus text format, beside Python's and the process's own. Labels are",
        "bounded: there is never an id of a video, job or person in one.\n",
        "| metric | type | labels | what |",
        "|---|---|---|---|",
    ]
    for name, kind, labels, words in metrics():
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '–'} | {words} |")
    return _page(lines)


def metrics() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return (name as scraped, type, labels, words) of every metric of ours, by name."""
    found = []
    for metric in vars(declared_metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            family = next(iter(metric.describe()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append((name, family.type, tuple(metric._labelnames), family.documentation))
    return sorted(found)


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of a command and all below it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def _help_text(command: Any) -> str:
    """Return a command's help; examples and other literal blocks as code."""
    blocks = []
    text = (command.help or "").strip()
    for block in text.split("\n\n"):
        literal = block.lstrip().startswith("\b")
        rows = block.replace("\b", "").strip("\n").splitlines()
        if literal:
            heading, *body = [row.strip() if number == 0 else row for number, row in enumerate(rows)]
            margin = min((len(row) - len(row.lstrip()) for row in body if row.strip()), default=0)
            blocks.append(f"{heading}\n\n```sh\n" + "\n".join(row[margin:].rstrip() for row in body) + "\n```")
        else:
            blocks.append("\n".join(row.strip() for row in rows))
    return "\n\n".join(blocks)


def _parameter_row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`" + ("" if parameter.required else " (may be left out)")
    default = parameter.default
    shown = "–" if default is None or default is False or callable(default) or default == () else f"`{default}`"
    if parameter.param_type_name == "argument" and parameter.required:
        shown = "–"
    return f"| {names} | {shown} | {_cell(parameter.help or '')} |"


def _fields_table(model: type[Value]) -> list[str]:
    rows = ["| field | type | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_plain(field.default)}`"
        rows.append(f"| `{name}` | {type_name(field.annotation)} | {default} |")
    return rows


def type_name(annotation: Any) -> str:
    """Return an annotation in words of JSON, linked where it is a value of ours."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return "date-time" if "datetime" in str(arguments[0]) else type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {type_name(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Value) and not issubclass(annotation, Event):
        return f"[{annotation.__name__}](events.md#{annotation.__name__.lower()})"
    known = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "datetime": "date-time"}
    name = getattr(annotation, "__name__", str(annotation))
    return known.get(name, "date-time" if name == "AwareDatetime" else name)


def values_in(model: type[Value]) -> Iterator[type[Value]]:
    """Yield every value class below a model."""
    for field in model.model_fields.values():
        yield from _values_of(field.annotation)


def _values_of(annotation: Any) -> Iterator[type[Value]]:
    for argument in get_args(annotation):
        yield from _values_of(argument)
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, Value):
        yield annotation
        yield from values_in(annotation)


def _limited(annotation: Any, schema: dict[str, Any]) -> str:
    """Return a setting's type with its limits."""
    names = {"SecretStr": "secret", "Path": "path", "Port": "integer"}
    kind = names.get(getattr(annotation, "__name__", ""), type_name(annotation))
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return kind
    if "exclusiveMinimum" in schema:
        return f"{kind}, above {low}" + (f", at most {high}" if high is not None else "")
    return f"{kind}, {low} to {high}" if high is not None else f"{kind}, at least {low}"


def _kept(topic: Topic) -> str:
    if topic.retention_ms == FOR_EVER:
        return "for ever"
    days = topic.retention_ms // DAY_MS
    return "1 day" if days == 1 else f"{days} days"


def _plain(value: object) -> str:
    """Return a default as JSON has it."""
    if isinstance(value, tuple | list):
        return "[]" if not value else ", ".join(map(str, value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value) or '""'


def _words(model: type[Value]) -> str:
    return " ".join((model.__doc__ or "").split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
