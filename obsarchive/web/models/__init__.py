"""Documents turned into what templates and programs show."""
