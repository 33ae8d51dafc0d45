"""Sites of the book: set up, simulated, and looked at level by level."""
