"""The four address forms, both ways, and the signatures and links they carry."""
