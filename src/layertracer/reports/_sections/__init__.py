"""The sections of a trace's report: a file for each subject."""
