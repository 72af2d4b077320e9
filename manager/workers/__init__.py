"""Worker processes: how the manager starts and supervises them."""
