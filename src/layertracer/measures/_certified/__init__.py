"""Certified stopping: statements that hold whenever one stops, since every round is a bet."""
