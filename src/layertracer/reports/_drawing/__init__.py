"""How figures are drawn: in a browser, on a terminal, on paper."""
