"""What came out, for people and for scripts: report dict -> markdown, terminal, csv; runs -> one table."""
