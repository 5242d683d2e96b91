"""Where pictures come from: folders, archives, tables and remote places, and the reading of them."""
