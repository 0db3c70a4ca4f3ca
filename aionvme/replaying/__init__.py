"""Traces that are carried out again."""
