"""Light curves: magnitudes, events, features."""
