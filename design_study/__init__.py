"""The trained proof of design advice: hybrids trained from attention miniatures, and the scores that foretell them."""
