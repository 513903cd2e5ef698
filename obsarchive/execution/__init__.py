"""Steps on the Dask cluster, each in a process of its own."""
