"""Checks of the configuration and of what the server needs around it, each with a remedy."""
