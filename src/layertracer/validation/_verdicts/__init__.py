"""Verdicts: what the evidence says to each question of a referee, never surer than its intervals allow."""
