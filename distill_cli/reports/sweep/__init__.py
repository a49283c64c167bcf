"""Tables over the runs of a sweep."""
