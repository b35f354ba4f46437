"""What a report says, in numbers and words, before anything is drawn."""
