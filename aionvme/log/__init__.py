"""A log of records over zones: what is appended is found again, by its number or after a crash."""
