"""Placements as configurations, proved by running what they configure."""
