"""Archiver: watches nightly directories, reduces what is due, keeps the database, shows the nights."""

__version__ = "0.1.0"
