"""Reads source code, for the tests that hold rules about it."""

import ast
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector away.

    CPython before 3.11.8 counts the depth of a tree that it builds in one variable for all trees (python/cpython#106905): when a
    collection in the middle runs Python code that parses, or lets another thread parse, it ends with SystemError "AST constructor
    recursion depth mismatch". Nothing else in `ast.parse` runs Python code.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def parsed(source: str, name: str = "<source>") -> ast.Module:
    """Return the tree of a module; see `without_collection`."""
    with without_collection():
        return ast.parse(source, name)
