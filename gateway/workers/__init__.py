"""Worker processes of the data plane: their messages, what they report, their program."""
