"""The line: small processes that meet only through messages."""
