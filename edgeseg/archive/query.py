"""Ask the table of an archive in SQL."""

from __future__ import annotations

import glob
from typing import Any, NamedTuple

from edgeseg.archive.places import Place, RemotePlace
from edgeseg.archive.plan import Plan
from edgeseg.archive.results import WITH_TABLE, table_name
from edgeseg.archive.shards import DONE
from edgeseg.errors import InputError, UsageError, first_line, require

__all__ = ["Answer", "answer"]


class Answer(NamedTuple):
    """Names of the columns, and the rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def answer(place: Place, plan: Plan, sql: str) -> Answer:
    """Ask DuckDB. The view ``frames`` has the rows of the shards that are done, and no others.

    Args:
        place: of the archive.
        plan: its plan.
        sql: a statement.

    Raises:
        UsageError: the archive has no table, or DuckDB does not take the statement.
        InputError: nothing is done yet. MissingDependencyError: duckdb is not installed.
    """
    if plan.wish.format not in WITH_TABLE:
        raise UsageError(f"{place.place} has masks and no table; one with `format` parquet or both has")
    duckdb = require("duckdb", "query")
    shards = [name.partition(".")[0] for name in place.names(DONE) if name.endswith(".json")]
    if not shards:
        raise InputError(f"{place.place}: no shard is done yet")
    with duckdb.connect() as connection:
        if isinstance(place, RemotePlace):
            connection.register_filesystem(place.filesystem)
        tables = [glob.escape(place.url(table_name(shard))) for shard in shards]
        try:
            connection.read_parquet(tables, hive_partitioning=False).create_view("frames")
            found = connection.execute(sql)
            columns = tuple(column[0] for column in found.description or ())
            return Answer(columns, found.fetchall() if columns else [])
        except duckdb.Error as error:
            raise UsageError(f"DuckDB: {first_line(error)}") from error
