"""Run folders: layout, checkpoints, resuming, provenance."""
