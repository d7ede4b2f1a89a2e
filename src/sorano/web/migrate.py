"""The schema's versions: brings a database to the newest one with Alembic, in one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sorano.errors import RequestError
from sorano.web.database import Database, sqlite_path

LOCK = 0x50A0  # of PostgreSQL: one migration at a time


def migrate(database: Database, scripts: Path, versions: str = "alembic_version") -> None:
    """Create the tables of a folder of Alembic versions (`versions` is the table that names theirs), or update them.

    Raises RequestError where the database cannot be used.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    try:
        with _alone(database), database.engine.connect() as connection:
            if (
                MigrationContext.configure(connection, opts={"version_table": versions}).get_current_revision()
                == newest
            ):
                return
            connection.rollback()
            if not database.is_sqlite:
                connection.execute(sa.text(f"SELECT pg_advisory_lock({LOCK})"))
                connection.commit()
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            finally:
                if not database.is_sqlite:
                    connection.rollback()
                    connection.execute(sa.text(f"SELECT pg_advisory_unlock({LOCK})"))
                    connection.commit()
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise RequestError(
            f"the database cannot be used: {str(cause).splitlines()[0]}",
            "check --database, and that its server runs and lets this user in",
        ) from error


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Holds a lock on a file beside an SQLite database."""
    path = sqlite_path(database.url)
    if not path:
        yield
        return
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(f"{path}.lock", "a")
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", "give another --data folder") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except ImportError:  # Windows: SQLite's own lock has to do
            pass
        yield
