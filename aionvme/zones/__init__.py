"""Zones as objects that keep the rules: order of writes, write pointers, and how many may be open and active."""
