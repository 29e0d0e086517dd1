"""What workers cost and how far they go, and what a hundred million users would take."""
