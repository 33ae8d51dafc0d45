"""Whole servers at the plug, and what they draw besides their GPUs."""
