"""Tests of the codec against bytes written from the specifications, never from the codec itself."""
