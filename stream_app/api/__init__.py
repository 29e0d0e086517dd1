"""The read API of a worker: what it knows of its users, over HTTP, for who has the token."""
