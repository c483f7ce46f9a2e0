"""Folders that nobody else may look into, and sockets that fit."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.runtime import folders
from infra.runtime.folders import NotPrivate, socket_path


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for sockets of this user, in place of the one in /tmp."""
    monkeypatch.setattr(folders, "SHORT_FOLDERS", tmp_path)
    return tmp_path / f"kinolog-{os.geteuid()}"


@given(st.lists(st.text("aü ", min_size=1, max_size=60), max_size=12))
def test_a_socket_can_be_bound_however_deep_its_folder_is(parts: list[str]) -> None:
    path = socket_path(Path("/", *parts, "run"), "supervisor.sock")

    assert len(os.fsencode(f"{path}.4194304")) <= 103
    assert path == socket_path(Path("/", *parts, "run"), "supervisor.sock")


def test_installations_have_sockets_of_their_own_in_a_folder_of_their_user(short: Path) -> None:
    first, second = (socket_path(Path("/", "x" * 100, name), "supervisor.sock") for name in ("a", "b"))

    assert first != second
    assert first.parent == second.parent == short
    assert short.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_somebody_else_prepared_is_refused(short: Path, kind: str, tmp_path: Path) -> None:
    match kind:
        case "open":
            short.mkdir()
            short.chmod(0o777)
        case "link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            short.symlink_to(tmp_path / "elsewhere")
        case _:
            short.touch(mode=0o600)

    with pytest.raises(NotPrivate, match="remove it, or set KINOLOG_VAR_DIR"):
        socket_path(Path("/", "x" * 100), "supervisor.sock")
