"""The report of evidence: the page, the terminal, JSON and CSV, all of one record."""
