"""The configuration file: its model, its field types, YAML files."""
