"""Connections to MongoDB, and the embedded server."""
