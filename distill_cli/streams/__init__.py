"""Rows to predict, read piece by piece: a table, an array, a record."""
