"""From the bytes of a file to pixels, format by format; and what can be said of pixels without a model."""
