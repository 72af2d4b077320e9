"""The Engine's API: connection, calls, streams, threads, ssh."""
