"""What a config may hold: its groups, types and ranges, whom it may name, and the building of its components."""
