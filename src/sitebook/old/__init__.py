"""The former book code, until every chapter shows its own analysis."""
