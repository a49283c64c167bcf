"""Sections of a sweep's page, one module each."""
