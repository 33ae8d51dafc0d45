"""Studies: one module a planning question; site traces in, tables out."""
