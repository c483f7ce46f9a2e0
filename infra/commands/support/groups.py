"""Groups of commands, whose help shows an example of each command."""

from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup


class Group(TyperGroup):
    """A group whose help ends with the first example of each of its commands, taken from their docstrings."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples():
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")

    def examples(self) -> Iterator[str]:
        """Yield them, in the order of the commands."""
        for command in self.commands.values():
            _, _, examples = (command.help or "").partition("Examples:\n")
            if first := examples.strip().partition("\n")[0].strip():
                yield first
