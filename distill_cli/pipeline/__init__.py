"""Config -> report: the only place that builds from config."""
