"""The command line: commands, overrides, Hydra, exit codes."""
