"""What a trace takes, known before it runs: costs, sizes of batches, the schedule."""
