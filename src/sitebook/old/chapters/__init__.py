"""One module a chapter: what only its page computes, and what it found as records."""
