"""What ``edgeseg archive`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import engine_field, graph_field, signature_field
from edgeseg.app.shipped import absolute_model
from edgeseg.archive.clusters import clusters_help
from edgeseg.archive.places import absolute_place
from edgeseg.archive.results import FORMATS
from edgeseg.credentials import has_credentials

__all__ = ["ArchiveConfig", "ArchiveQueryConfig"]

_WORK = "Who works it off"


@dataclass(frozen=True)
class ArchiveConfig(Config):
    """An archive of pictures and videos, and where its results go."""

    sources: Sequence[str] = option(
        (),
        is_argument=True,
        is_path=True,
        absolute=absolute_place,
        is_secret=has_credentials,
        help="Pictures, videos, folders at any depth, globs, lists (.txt), s3://BUCKET/FOLDER and other URLs of "
        "fsspec; none goes on with the plan that is there.",
    )
    model: Optional[Path] = option(
        None,
        short="-m",
        is_path=True,
        absolute=absolute_model,
        help="A bundle, or a name of 'edgeseg models'; else your newest *.edgeseg here, else the shipped one.",
    )
    output: Optional[str] = option(
        None,
        short="-o",
        is_path=True,
        absolute=absolute_place,
        is_secret=has_credentials,
        help="Folder or URL for the plan, the results and the done-files; of a former run: go on with it.",
    )
    format: Optional[str] = option(
        None, choices=FORMATS, help="png: class-id masks. parquet: a table with a row per frame. both; else png."
    )
    shard_frames: Optional[int] = option(
        None, at_least=1, at_most=1_000_000, help="Frames that are kept, and done again after a kill, at a time; "
        "else 1000.",
    )  # fmt: skip
    on: str = option("local", help=f"{clusters_help()}.", panel=_WORK)
    workers: int = option(
        0, at_least=0, at_most=4096, help="Processes of this machine, 0 for one per core.", panel=_WORK
    )
    shard: str = option("", help="i/n: only each n-th task from i on, for arrays of jobs; i is 0 to n-1.", panel=_WORK)
    max_failures: Optional[int] = option(None, at_least=0, help="End when more frames than so many failed.")
    verify: str = option("", help="A share such as 0.1%: segment it again afterwards, and compare.")
    status: Optional[str] = option(
        None, is_path=True, absolute=absolute_place, is_secret=has_credentials, help="Only say how far an archive is."
    )
    graph: Optional[str] = graph_field()
    engine: str = engine_field()
    threads: int = option(1, at_least=0, at_most=1024, help="CPU threads of each process, 0 for all.", panel=_WORK)
    require_signature: Optional[Path] = signature_field()


@dataclass(frozen=True)
class ArchiveQueryConfig(Config):
    """A question to the table of an archive."""

    archive: str = option(
        is_argument=True,
        is_path=True,
        absolute=absolute_place,
        is_secret=has_credentials,
        help="Folder or URL of an archive with a table.",
    )
    sql: str = option(is_argument=True, help="For DuckDB; the table is called frames.")
