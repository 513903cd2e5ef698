"""Documents, states, paths, rules and logs: the base of all other folders."""
