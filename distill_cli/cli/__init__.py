"""The command line: first word, overrides, Hydra, exit codes."""
