"""Evidence on the embedded models: is the task particle real, is the vulnerable layer real."""
