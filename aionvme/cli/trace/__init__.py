"""What a trace says: its commands by kind, its zones over time, a figure of both."""
