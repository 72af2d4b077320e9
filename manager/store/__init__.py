"""What the runtime cannot keep, in one SQLite file."""
