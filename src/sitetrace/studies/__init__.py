"""Studies: one module a planning question; traces or models in, tables out."""
