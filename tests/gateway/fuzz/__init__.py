"""Coverage-guided fuzzing of the data plane; no part of the ordinary test run. See `__main__` for how to run it."""
