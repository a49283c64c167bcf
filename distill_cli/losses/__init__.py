"""One way of being wrong a file; the mean over the batch belongs to the objective."""
