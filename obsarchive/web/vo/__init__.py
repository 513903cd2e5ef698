"""The virtual observatory: SCS, SIA2, TAP, DataLink and SODA on what a user may see."""
