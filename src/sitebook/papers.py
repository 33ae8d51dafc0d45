"""What the papers print, and what follows from it."""

from sitetrace.core.registry import read_paper_table as paper_table

__all__ = ["paper_table"]
