"""Files of the index folder: written so that they survive a crash, and the manifest that names them."""
