"""Holds a loss against its formula, against finite differences, and against what it declares."""
