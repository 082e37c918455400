"""The service: API, pages, re-scoring and the command line."""
