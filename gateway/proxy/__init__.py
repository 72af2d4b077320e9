"""Proxying: client connections and their exchanges."""
