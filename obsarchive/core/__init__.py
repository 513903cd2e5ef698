"""Documents, states, paths, rules and logs: what every other part speaks about."""
