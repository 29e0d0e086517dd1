"""What a worker answers over HTTP: one server, to which others bring their routes."""
