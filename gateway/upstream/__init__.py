"""Connections to sandbox ports: targets, pools, dialling."""
