"""The host the Engine runs on: topology, paths, our own container, our instance id."""
