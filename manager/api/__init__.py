"""The REST API: the same routes, shapes and codes as the released lifecycle server."""
