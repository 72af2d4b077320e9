"""HTTP on the wire, bytes only: heads, framing, forwarded headers, responses of our own."""
