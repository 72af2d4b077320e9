"""The data plane: bytes in, bytes out. It knows HTTP, sockets and the route table, but no runtime."""
