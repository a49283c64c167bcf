"""Sources -> Dataset: one file a data set."""
