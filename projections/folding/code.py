"""Digests of folding code: versions with equal digests must have equal rows at equal positions.

Only definitions that a fold reaches count: its functions, its row, the events that it matches, and the definitions that these name
in turn. Comments, docstrings, annotations of functions, imports and module names do not count: a module may be moved or gain a
reader without a new digest.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from projections.folding.fold import Projection

OURS = ("events", "projections", "producers", "processors")
"""Packages whose definitions are followed; versions of libraries are not part of the digest."""
_SQL_COMMENT = re.compile(r"--[^\n]*")

Definition = tuple[str, str]
"""A module and a name at its top level."""


@cache
def code_of(projection: Projection) -> str:
    """Return SHA-256, hex, of all code that determines a projection's rows at a position."""
    texts = {" ".join(_SQL_COMMENT.sub("", projection.create).split())}
    roots: list[object] = [projection.decode_all, projection.gathering]
    for table in projection.tables:
        texts.add(repr((table.name, table.key)))
        roots += [table.row, table.keys_of, table.evolve]
        if table.source is not None:
            roots += [table.source.table, table.source.items]
    waiting = [found for root in roots for found in _named(root, texts)]
    reached = set[Definition]()
    while waiting:
        definition = waiting.pop()
        if definition not in reached:
            reached.add(definition)
            for text, names in _statements(*definition):
                texts.add(text)
                waiting += names
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def _named(root: object, texts: set[str]) -> Iterator[Definition]:
    """Yield the definition of a function or class, and those it was made with: a partial's arguments, a closure's variables."""
    if isinstance(root, partial):
        for inner in (root.func, *root.args, *root.keywords.values()):
            yield from _named(inner, texts)
    elif isinstance(root, type):
        yield root.__module__, root.__qualname__.partition(".")[0]
    elif hasattr(root, "__code__") or hasattr(root, "__func__"):
        yield _definition_of(root)
        for cell in getattr(root, "__closure__", None) or ():
            yield from _named(cell.cell_contents, texts)
    elif isinstance(root, str | bytes | int | float | tuple | frozenset | None):
        texts.add(repr(root))
    else:
        yield from _named(type(root), texts)


def _definition_of(function: Any) -> Definition:
    """Return a function's location; of a lambda at the top level, that of its statement."""
    function = getattr(function, "__func__", function)
    module, name = function.__globals__["__name__"], function.__code__.co_qualname.partition(".")[0]  # any wrapped function
    if name == "<lambda>" and (found := _module(module)) is not None:
        line = function.__code__.co_firstlineno
        standing = [bound for bound, all in found.definitions.items() if any(one.lineno <= line <= _end(one) for one in all)]
        name = next(iter(standing), name)
    return module, name


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


@dataclass(frozen=True)
class _Module:
    """The top level of a module: statements by the names that they bind, and imports as (module, name or None)."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str | None]]


@cache
def _module(name: str) -> _Module | None:
    """Read a module; None without source."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or not file.endswith(".py"):
        return None
    tree = ast.parse(Path(file).read_text())
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for bound in _bound(statement):
            definitions.setdefault(bound, []).append(statement)
    imports: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.asname: (alias.name, None) for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return _Module(definitions, imports)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@cache
def _statements(module: str, name: str) -> tuple[tuple[str, tuple[Definition, ...]], ...]:
    """Return the statements that define a name, as text stripped of what changes no row, with the definitions that each names."""
    found = _module(module)
    if found is None:
        return ()
    bare = []
    for statement in found.definitions.get(name, ()):
        naming = _Bare(lambda used: _resolved(module, used))
        text = ast.unparse(naming.visit(ast.parse(ast.unparse(statement))))
        bare.append((text, tuple(naming.named)))
    return tuple(bare)


def _resolved(module: str, name: str) -> Definition | str | None:
    """Resolve a name in a module: to a definition of ours, a module of ours (its name), or None."""
    found = _module(module)
    if found is None:
        return None
    if name in found.definitions:
        return module, name
    source, attribute = found.imports.get(name, (None, None))
    if source is None or source.partition(".")[0] not in {*OURS, module.partition(".")[0]}:
        return None
    if attribute is None:
        return source
    inner = f"{source}.{attribute}"
    return inner if _module(inner) is not None else _resolved(source, attribute)


class _Bare(ast.NodeTransformer):
    """Strips a statement of what changes no row; collects the definitions that it names in `named`."""

    def __init__(self, resolved: Callable[[str], Definition | str | None]) -> None:
        self._resolved = resolved
        self._inside_function = False
        self.named: list[Definition] = []

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop docstrings."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Drop imports: imported names are followed."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Drop imports."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Drop annotations of arguments."""
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Drop annotations of variables, but not of a class's fields: rows and events are read by them."""
        if not self._inside_function:
            return self.generic_visit(node)
        value = self.visit(node.value) if node.value is not None else None
        return None if value is None else ast.Assign([node.target], value, lineno=node.lineno)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drop the annotation of the returned value."""
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Do the same."""
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        outside, self._inside_function, node.returns = self._inside_function, True, None
        kept = self._kept(node)
        self._inside_function = outside
        return kept

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Keep the body from being empty."""
        return self._kept(node)

    def _kept(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Collect a named definition."""
        found = self._resolved(node.id) if isinstance(node.ctx, ast.Load) else None
        if isinstance(found, tuple):
            self.named.append(found)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Collect a module's named definition, and drop the module's name."""
        if isinstance(node.value, ast.Name) and isinstance(module := self._resolved(node.value.id), str):
            found = _resolved(module, node.attr)
            if isinstance(found, tuple):
                self.named.append(found)
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return self.generic_visit(node)
