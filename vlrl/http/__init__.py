"""HTTP: one client with retries, and which addresses may be reached."""
