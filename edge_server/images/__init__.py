"""Pictures: whatever a caller sends becomes pixels, and predictions are drawn on them."""
