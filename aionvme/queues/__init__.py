"""Queues: the ways a command can reach a device, behind one small interface (``base.Queue``)."""
