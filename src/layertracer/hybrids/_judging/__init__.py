"""What placements are measured on, and what they cost there."""
