"""Arrays in, PNG bytes out: previews and plots."""
