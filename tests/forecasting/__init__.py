"""The revenue forecast."""
