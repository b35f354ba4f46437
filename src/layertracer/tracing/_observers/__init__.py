"""What is seen of a layer in unperturbed runs."""
