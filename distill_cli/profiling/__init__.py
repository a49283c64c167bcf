"""What a model costs: parameters, MACs, bytes, memory, latency."""
