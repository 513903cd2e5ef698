"""What runs for ever: scan, reconcile, plan, submit, harvest, pack."""
