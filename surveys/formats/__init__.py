"""Files of catalogues, tables and light curves."""
