"""Names of the files of a dataset."""

CONFIGURATION = "reduction_config.yaml"
STAR_CATALOGUE = "star_catalog.fits"
RAW_FLUX, SIDECARS = "raw_flux", "wcs"
TABLE, TABLE_PATH = "photometry.h5", "photometry"
LIGHT_CURVE = "lightcurve.ecsv"
FRAMES = "frames.ecsv"
SUMMARY = "data_summary.txt"
LOG, RECORD = "aperture_pipeline.log", "reduction.json"
PLOTS = {
    "lightcurve.png": "light curve of the target",
    "finder.png": "the target on the reference frame",
    "rms.png": "scatter of all stars against magnitude",
    "growth.png": "light in apertures of several radii",
    "residuals.png": "comparison with the catalogue over the field",
}
"""Pictures, and what they show."""
