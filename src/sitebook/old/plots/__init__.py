"""The book's former figures."""

from sitetrace.core.style import use_style

__all__ = ["use_style"]
