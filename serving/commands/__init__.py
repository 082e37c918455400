"""Commands that are groups of their own; `serving.cli` puts them together."""
