"""What a run is, from a config to its report."""
