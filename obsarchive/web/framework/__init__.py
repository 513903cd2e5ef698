"""What every page rests on: login, security, errors, files."""
