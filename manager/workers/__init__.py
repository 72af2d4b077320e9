"""The worker processes as the manager sees them."""
