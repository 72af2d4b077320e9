"""The data plane: bytes in, bytes out. It knows HTTP, sockets and the route table, and nothing of what runs behind them."""
