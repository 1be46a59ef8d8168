"""What operators watch: counted here, read at ``GET /metrics``."""
