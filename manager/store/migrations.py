"""The schema as numbered steps. A step that has been released is never edited; a change is a new step at the end."""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE renewals (sandbox_id TEXT PRIMARY KEY, expires_at TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE metadata (sandbox_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE failures (
            sandbox_id TEXT PRIMARY KEY, until TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID""",
        "CREATE TABLE doomed (sandbox_id TEXT PRIMARY KEY) WITHOUT ROWID",
        """CREATE TABLE snapshots (
            id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, name TEXT, state TEXT NOT NULL, reason TEXT, message TEXT,
            created_at TEXT NOT NULL, last_transition_at TEXT, image TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE idempotency (
            owner TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, sandbox_id TEXT NOT NULL,
            made TEXT, until TEXT NOT NULL, PRIMARY KEY (owner, key)) WITHOUT ROWID""",
    ),
    ("CREATE TABLE owners (sandbox_id TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID",),
    ("CREATE TABLE limits (sandbox_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",),
    ("CREATE TABLE adopted (snapshot_id TEXT PRIMARY KEY) WITHOUT ROWID",),
    ("ALTER TABLE snapshots ADD COLUMN owner TEXT NOT NULL DEFAULT ''", "DROP TABLE owners"),
    (
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY, own INTEGER NOT NULL, at TEXT NOT NULL, sandbox_id TEXT NOT NULL,
            owner TEXT NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX events_of_a_sandbox ON events (sandbox_id, id)",
        "CREATE INDEX events_of_an_owner ON events (owner, own)",
    ),
)
