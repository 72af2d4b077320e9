"""The control plane: sandboxes, their runtimes, the REST API, and the composition root of the process."""
