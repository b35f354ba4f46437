"""What a stored run may hold: types, ranges, laws across fields, and the answers that must follow."""
