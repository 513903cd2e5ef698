"""Source detection, aperture and PSF photometry, zero points."""
