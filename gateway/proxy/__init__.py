"""One client connection and what is done with each of its requests."""
