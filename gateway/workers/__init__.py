"""Worker processes of the data plane: their program, messages and reports."""
