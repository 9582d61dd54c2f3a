"""One module per backbone; the rest of the package does not know which one runs."""
