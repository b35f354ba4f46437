"""What the numbers of the stages come to: parts of the record, made of arrays alone. No model is run here."""
