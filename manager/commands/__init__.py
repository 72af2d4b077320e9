"""Commands of `opensandbox-server` beside serving: each prints for people and returns an exit code."""
