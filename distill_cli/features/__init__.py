"""Features of a student beside those of its teachers: which layers, brought to one shape, in full precision."""
