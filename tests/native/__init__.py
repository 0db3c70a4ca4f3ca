"""Tests of the native core, and of the queue and the driver above it, on real rings of this machine's kernel."""
