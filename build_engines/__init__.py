"""ONNX weights in, an engine for this device out, in a process of its own.

Imports ``engines`` and is imported by ``edge_server``; works without either server or network.
"""
