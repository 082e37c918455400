"""The API, version 1: JSON in and out, problems as `application/problem+json`, a Bearer key a caller."""
