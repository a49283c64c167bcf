"""Typed settings of every command: made once from a checked config, and what everything below the command line takes."""
