"""Where sandboxes run: the protocol (base) and its implementations."""
