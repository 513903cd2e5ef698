"""Interfaces for programs: REST and the virtual observatory."""
