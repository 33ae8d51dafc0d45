"""The numbers of the paper, what our pages found beside them, and the verdicts."""
