"""Settings to objects: data, objectives, stages, controls, loggers."""
