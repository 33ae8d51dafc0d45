"""The kind `timeline`: watts of the engine's steps, seen through a meter."""
