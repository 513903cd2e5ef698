"""Survey sources in the portal; the only part of it that imports `surveys`."""
