"""Pictures that are drawn for people: contact sheets, curves, overlays, thumbnails."""
