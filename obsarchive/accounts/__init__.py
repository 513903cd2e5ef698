"""Users of the portal: passwords, invitations, two-step login."""
