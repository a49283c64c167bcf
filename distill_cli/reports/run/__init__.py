"""The report of one run as Markdown, CSV and terminal tables."""
