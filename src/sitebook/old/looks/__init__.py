"""Looks at recordings, states and meters, each for one question of the book."""
