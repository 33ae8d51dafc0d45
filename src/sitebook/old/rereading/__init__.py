"""What chapters that are not yet converted still ask of the former page on the paper's tables."""
