"""The driver: the only layer that knows an event loop."""
