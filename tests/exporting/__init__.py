"""Tests of crm_core.exporting."""
