"""Intermediate features: hooks, layer pairs, adapters, numerics."""
