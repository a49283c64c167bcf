"""Typed settings of every command.

They are made once from a checked config, and are what everything below the command line takes.
"""
