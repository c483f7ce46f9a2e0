"""A question in SQL reads history and nothing else of this machine."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.errors import InvalidRequest
from events.topics import PROGRESS
from infra.history.warehouse import ask, names_of, open_warehouse
from infra.reference.schemas import ROOT
from infra.runtime.objects import ObjectStore
from infra.runtime.scratch import scratch
from infra.runtime.settings import Settings
from tests.support.commands import kinolog
from tests.support.counting import ticks
from tests.support.log import appending

SECRET = "a secret of this machine"
STATEMENTS = [
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT content FROM read_blob('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM secret",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY progress TO '{folder}/out.parquet'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.duckdb'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "DROP VIEW progress",
    "INSERT INTO progress SELECT * FROM progress",
    "SET enable_external_access = true",
    "RESET allowed_paths",
    "PRAGMA database_list",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL duckdb_settings()",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT * FROM 'https://127.0.0.1:1/x.parquet'",
    "",
    "nonsense",
]


async def test_a_question_reads_nothing_but_history_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    await ObjectStore(settings).ensure_bucket()
    async with appending(settings) as appender:
        await appender.append(ticks(10))
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    secret = pa.table({"word": [SECRET]})
    before = set(tmp_path.iterdir())
    with scratch(settings) as folder, await open_warehouse(settings, [PROGRESS], folder) as connection:
        for statement in STATEMENTS:
            with pytest.raises((InvalidRequest, duckdb.Error)):
                ask(connection, statement.format(file=file, folder=tmp_path)).fetchall()
        assert ask(connection, "SELECT count(*) FROM progress").fetchall() == [(10,)]
        assert ask(connection, "FROM progress ORDER BY time DESC LIMIT 3; -- one").to_arrow_table().num_rows == 3
        assert ask(connection, "WITH few AS (FROM range(4)) SELECT sum(range) FROM few").fetchall() == [(6,)]
        assert names_of(ask(connection, "SELECT 1 AS a, 2 AS a, 3 AS a_1")) == ["a", "a_1", "a_1_1"]
    assert set(tmp_path.iterdir()) - before <= {settings.var_dir}
    assert secret.num_rows == 1


async def test_names_of_columns_are_data_and_an_empty_file_has_its_columns(settings: Settings, tmp_path: Path) -> None:
    await ObjectStore(settings).ensure_bucket()
    async with appending(settings) as appender:
        await appender.append(ticks(10))
    asked = 'SELECT count(*) AS ":x:", 1 AS "[bold]b", 2 AS "\x1b[31mred" FROM progress'
    shown = await kinolog(settings, "sql", asked, cwd=tmp_path)
    assert shown.stdout.splitlines()[0].split() == [":x:", "[bold]b", "�[31mred"], shown.stderr
    refused = await kinolog(settings, "sql", f"SELECT * FROM read_text('{tmp_path}/empty.sql')", cwd=tmp_path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    (tmp_path / "empty.sql").write_text("SELECT subject, time, 1.5 AS x FROM progress WHERE false")
    made = await kinolog(settings, "replay", "empty.sql", "--into", "empty.parquet", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert pq.read_schema(tmp_path / "empty.parquet").names == ["subject", "time", "x"]
    assert not list((settings.var_dir / "scratch").iterdir())
    assert stat.S_IMODE((settings.var_dir / "archive").stat().st_mode) == 0o700


def test_what_a_killed_command_leaves_is_for_its_user_alone_and_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from infra.runtime.scratch import scratch; "
        "from infra.runtime.settings import Settings\n"
        "with scratch(Settings(var_dir=Path(sys.argv[1]))) as folder:\n"
        "    (folder / 'x').write_text('secret'); print(folder, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    settings = Settings(var_dir=tmp_path)
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700 == stat.S_IMODE(folder.parent.stat().st_mode)
        with scratch(settings):
            assert (folder / "x").exists()  # its owner lives
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert folder.exists()
    with scratch(settings):
        assert not folder.exists()
    assert json.dumps([path.name for path in folder.parent.iterdir()]) == "[]"
