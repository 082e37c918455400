"""Tests of importing by a mapping."""
