"""HTTPS servers of this project: TLS whose files may change under way, uvicorn with bounds and a graceful end."""
