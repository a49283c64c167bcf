"""Checks of losses against references, finite differences and their declarations."""
