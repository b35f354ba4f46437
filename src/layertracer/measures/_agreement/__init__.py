"""How far two measurements agree, over layers or prompts: correlations, intervals, p-values and their correction."""
