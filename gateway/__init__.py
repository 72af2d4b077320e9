"""The data plane: bytes in, bytes out. It knows HTTP, sockets and the route table, not what runs behind."""
