"""The colours of every drawn picture: sheets, curves and overlays look like parts of one thing."""

PAGE, CARD, EDGE, MAT = "#F4F5F7", "#FFFFFF", "#E3E6EB", "#EEF0F3"
INK, SOFT_INK, FAINT_INK = "#171B24", "#5A6372", "#8B94A3"
ACCENT, QUERY_ACCENT, TRACK = "#1F8A8C", "#D9622B", "#E3E8EC"
