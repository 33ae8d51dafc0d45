"""What only the book needs: chapters, figures, exercises, the ledger."""
