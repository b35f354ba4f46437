"""What a checkpoint says of itself, held against what it has before it is believed."""
