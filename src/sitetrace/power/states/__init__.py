"""The kind `states`: the paper's way, states by load and power within them."""
