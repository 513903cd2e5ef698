"""Questions to services on the internet: catalogues, sky surveys."""
