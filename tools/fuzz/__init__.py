"""A fuzz campaign against a running server: mutated pictures and mutated JSON."""
