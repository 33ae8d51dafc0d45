"""Methods judged on the same seconds: splits, scores, ranks, costs, and the later model rebuilt."""
