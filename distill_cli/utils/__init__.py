"""Files, locks, signals, serialization, timing, devices."""
