"""Gates over layers: early exit, and switching by the task particle."""
