"""How design advice for hybrids is made: rows, substitutes judged on them, search, gates, divisions."""
