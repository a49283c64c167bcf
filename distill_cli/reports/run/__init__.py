"""The report of one run as markdown, CSV and terminal tables."""
