"""Coverage-guided fuzzing of the data plane; no part of the ordinary test run: `python -m tests.gateway.fuzz`."""
