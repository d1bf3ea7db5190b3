"""Networks run on images: simulated, verified, counted."""
