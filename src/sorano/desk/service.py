"""A desk: its database, its ledger, its directory, its requests; opened once for each process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from sorano.desk.clock import GuardedClock
from sorano.desk.config import DeskSettings
from sorano.desk.confirm import Confirm
from sorano.desk.directory import Directory, deny_open
from sorano.desk.ledger import Ledger, Transaction
from sorano.desk.passkeys import Passkeys
from sorano.desk.policy import ConfirmationPolicy, read_policy
from sorano.desk.tables import MIGRATIONS, VERSIONS, api_keys, ceremonies, sessions, tickets
from sorano.trust.provenance import keys
from sorano.web.database import Database
from sorano.web.keys import ApiKeys
from sorano.web.logs import log
from sorano.web.migrate import migrate

SCOPES = ("file", "execute", "guard", "audit")  # file requests; consume and redeem; say what a call is; export receipts
SWEEP_SECONDS = 5.0
WHOLE_SECONDS = 3600.0


@dataclass
class Desk:
    """The parts of one desk."""

    settings: DeskSettings
    database: Database
    policy: ConfirmationPolicy
    ledger: Ledger
    keys: ApiKeys
    passkeys: Passkeys
    directory: Directory
    confirm: Confirm
    stopping: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def open(cls, settings: DeskSettings, clock: GuardedClock | None = None) -> Desk:
        """The desk of a database. Raises RequestError where database or policy cannot be used."""
        policy = read_policy(settings.policy)
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database(settings.database)
        migrate(database, MIGRATIONS, VERSIONS)
        ledger = Ledger(database, settings.anchor_file, clock)
        passkeys = Passkeys(database, settings)
        directory = Directory(ledger, passkeys, settings.session_seconds)
        return cls(
            settings=settings,
            database=database,
            policy=policy,
            ledger=ledger,
            keys=ApiKeys(database, api_keys, SCOPES, "sorano desk keys"),
            passkeys=passkeys,
            directory=directory,
            confirm=Confirm(ledger, directory, passkeys, policy, settings.origin),
        )

    def accept(self, reason: str) -> int:
        """Take the database and the clock as they are, and deny all that is open; how many that were."""
        denied = 0

        def act(change: Transaction) -> None:
            nonlocal denied
            denied = deny_open(change, sa.true(), "accepted")
            change.receipt("accepted", "operator", denied=denied, reason=reason)

        self.ledger.accept(act)
        return denied

    def export(self) -> bytes:
        """The receipts, signed with this user's keys."""
        return self.ledger.export(keys.identity())

    def sweep(self, *, whole: bool = False) -> None:
        """Deny what was not answered in time; as a `whole`, sign the day and erase what is old too."""
        self.confirm.expire()
        if not whole:
            return
        self.ledger.seal(keys.identity())
        now = self.ledger.clock.read().wall
        self.confirm.forget(now - self.policy.keep_seconds)
        self.directory.forget(now - self.policy.keep_seconds)
        with self.database.write(durable=False) as connection:
            connection.execute(sa.delete(ceremonies).where(ceremonies.c.expires_at < now - 3600))
            connection.execute(sa.delete(sessions).where(sessions.c.expires_at < now))
            connection.execute(sa.delete(tickets).where(tickets.c.expires_at < now - self.policy.keep_seconds))

    def start(self) -> Callable[[], None]:
        """Sweep from a thread; what is returned ends it."""
        thread = threading.Thread(target=self._sweep_on, name="desk-sweep", daemon=True)
        thread.start()

        def stop() -> None:
            self.stopping.set()
            thread.join(10)

        return stop

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def _sweep_on(self) -> None:
        swept = 0
        while not self.stopping.wait(SWEEP_SECONDS if swept else 0.0):
            try:
                self.sweep(whole=swept % (WHOLE_SECONDS // SWEEP_SECONDS) == 0)
            except Exception as error:  # a sweep that failed is tried again; a frozen ledger says so each time
                log("sweep failed", level="error", error=type(error).__name__, code=getattr(error, "code", None))
            swept += 1
