"""The command `sitetrace`."""
