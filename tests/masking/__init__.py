"""How well masking finds what it should and leaves what it should not touch, on labelled texts."""
