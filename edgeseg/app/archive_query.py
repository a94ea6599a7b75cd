"""Ask the table of an archive."""

from __future__ import annotations

from edgeseg.app.archive_config import ArchiveQueryConfig
from edgeseg.archive.places import place_at
from edgeseg.archive.plan import PLAN, read_plan
from edgeseg.archive.query import Answer, answer
from edgeseg.errors import UsageError

__all__ = ["query_archive"]


def query_archive(config: ArchiveQueryConfig) -> Answer:
    """Ask DuckDB for what the table of an archive says.

    Raises:
        UsageError: there is no archive or no table, or the statement is wrong. EdgesegError: it cannot be read.
    """
    place = place_at(config.archive)
    plan = read_plan(place)
    if plan is None:
        raise UsageError(f"{place.place} holds no archive: {PLAN} is missing")
    return answer(place, plan, config.sql)
