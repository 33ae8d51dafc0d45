"""One module a planning question."""
