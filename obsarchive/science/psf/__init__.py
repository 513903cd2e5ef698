"""Point-spread functions: model, Strehl ratio, seeing, subtraction, contrast."""
