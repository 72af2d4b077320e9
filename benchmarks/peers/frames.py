"""The one WebSocket message of the echo benchmark, as each side frames it."""

from __future__ import annotations

PAYLOAD = b"x" * 64
CLIENT_FRAME = bytes([0x82, 0x80 | len(PAYLOAD)]) + bytes(4) + PAYLOAD
"""Masked, as clients must; a mask of zeros leaves the payload as it is."""
SERVER_FRAME = bytes([0x82, len(PAYLOAD)]) + PAYLOAD
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
