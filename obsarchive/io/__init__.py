"""Files: FITS products, raw frames, compression, locks, the PSF library."""
