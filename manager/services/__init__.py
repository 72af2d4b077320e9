"""What the API does, over any runtime."""
