"""Loaded models: run them, load each once, let go of them safely."""
