"""The records that the runtime cannot keep, in one SQLite file."""
