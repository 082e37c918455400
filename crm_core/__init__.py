"""The record store: records, their change log, and what was known when."""
