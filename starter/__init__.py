"""The doors in: HTTP API, command line, embedded stack."""
