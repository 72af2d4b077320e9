"""What a sandbox is, without any I/O."""
