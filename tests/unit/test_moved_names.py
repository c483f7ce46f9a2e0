"""Names that users' replay and what-if files may still import from where they were one version ago."""

import importlib
import sys

import pytest

MOVED = {
    "projections.fold": ("projections.folding.fold", ("Gathered", "Projection", "Table", "table_row")),
    "processors.pool_state": ("processors.dispatch.state", ("Policy",)),
    "processors.whatif": ("processors.dispatch.whatif", ("Worker",)),
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_same_object_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new, names = MOVED[old]
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=new):
        module = importlib.import_module(old)
    for name in names:
        assert getattr(module, name) is getattr(importlib.import_module(new), name)
