"""Time series of fields: frames of one target, instrument and filter become light curves of all their stars."""
