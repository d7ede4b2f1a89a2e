"""The tables of the desk. Times are seconds since 1970; people and requests have random names of their own."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from sorano.web.keys import api_keys_table

MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = "desk_alembic_version"  # tables have names of their own: a server may share the database

metadata = sa.MetaData()
Json = sa.JSON()

api_keys = api_keys_table(metadata, "desk_api_keys")
people = sa.Table(  # the directory
    "desk_people",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # random: what receipts say
    sa.Column("handle", sa.Text, unique=True),  # what a request's `requested_by` says; NULL: erased
    sa.Column("name", sa.Text),
    sa.Column("roles", Json, nullable=False),  # file, approve, admin
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
)
credentials = sa.Table(  # passkeys
    "desk_credentials",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # as the authenticator names it, base64url
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("public_key", sa.Text, nullable=False, unique=True),  # COSE, base64url
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("is_synced", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Index("desk_credentials_of_person", "person_id"),
)
one_time_secrets = sa.Table(  # of TOTP, the fallback
    "desk_one_time_secrets",
    metadata,
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),  # no code counts twice
    sa.Column("created_at", sa.Float, nullable=False),
)
tickets = sa.Table(  # enrolments and recoveries
    "desk_tickets",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),  # enrol, recover, totp
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("statement", sa.Text, nullable=False),  # what its sponsors sign: canonical JSON
    sa.Column("sponsors", Json, nullable=False),  # ids of people
    sa.Column("codes", Json, nullable=False),  # SHA-256 of each sponsor's half of the code
    sa.Column("secret", sa.Text),  # of kind totp, until it is proven
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
)
ceremonies = sa.Table(  # a challenge that waits for its assertion, and is burnt by the first
    "desk_ceremonies",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text),
    sa.Column("subject", sa.Text),  # a request or a ticket
    sa.Column("nonce", sa.Text, nullable=False),
    sa.Column("challenge", sa.Text, nullable=False),
    sa.Column("asks", sa.Text),  # account or amount: whose last digits are to be typed
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
    sa.Index("desk_ceremonies_of_person", "person_id", "created_at"),
    sa.Index("desk_ceremonies_age", "expires_at"),
)
sessions = sa.Table(
    "desk_sessions",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)
requests = sa.Table(
    "desk_requests",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),  # pending, cleared, consumed, denied, expired
    sa.Column("canonical", sa.Text),  # the exact bytes that are approved; NULL: erased
    sa.Column("digest", sa.Text, nullable=False),  # SHA-256 of them
    sa.Column("requested_by", sa.Text, nullable=False),  # a person's id
    sa.Column("filed_by", sa.Text, nullable=False),  # a person's or a key's id
    sa.Column("payee_key", sa.Text, nullable=False),
    sa.Column("account_key", sa.Text, nullable=False),
    sa.Column("base_amount", sa.Float),  # in the policy's currency; NULL: it has no rate
    sa.Column("tier", sa.Text, nullable=False),  # normal, high, refused
    sa.Column("reasons", Json, nullable=False),
    sa.Column("independent", sa.Integer, nullable=False),  # approvals beside the requester's
    sa.Column("takes_codes", sa.Boolean, nullable=False),  # whether one approval may be a one-time code
    sa.Column("cooling_seconds", sa.Float, nullable=False),
    sa.Column("wrong_digits", Json, nullable=False),  # person -> how often
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("release_from", sa.Float),
    sa.Column("release_until", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("ended_by", sa.Text),
    sa.Column("is_duress", sa.Boolean, nullable=False, default=False),  # shown to administrators alone
    sa.Index("desk_requests_open", "status", "expires_at"),
    sa.Index("desk_requests_age", "created_at"),
)
approvals = sa.Table(
    "desk_approvals",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),  # once each
    sa.Column("slot", sa.Text, nullable=False),  # requester, independent
    sa.Column("method", sa.Text, nullable=False),  # passkey, totp
    sa.Column("credential_id", sa.Text),
    sa.Column("at", sa.Float, nullable=False),
)
releases = sa.Table(
    "desk_releases",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),  # of the token
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
)
payees = sa.Table(  # whom money was released to, as keyed digests
    "desk_payees",
    metadata,
    sa.Column("payee_key", sa.Text, primary_key=True),
    sa.Column("account_key", sa.Text, primary_key=True),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Index("desk_payees_account", "account_key"),
)
calls = sa.Table(  # what the guard of calls found
    "desk_calls",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
receipts = sa.Table(  # append-only: each line names the hash of the one before
    "desk_receipts",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("line", sa.Text, nullable=False),  # canonical JSON
    sa.Column("hash", sa.Text, nullable=False),
)
seals = sa.Table(  # signatures over the end of a day's receipts
    "desk_seals",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
)
secrets_table = sa.Table(  # of this desk: the key of the digests of payees and accounts
    "desk_secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
