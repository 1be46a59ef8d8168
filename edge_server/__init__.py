"""The appliance: an HTTP request about a model id in, an answer out."""

__version__ = "0.1.0"
