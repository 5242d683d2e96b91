"""How the page looks: the colours of both themes, and the few rules that Streamlit's own do not cover."""

_LIGHT = {
    "primaryColor": "#1F7A7C",
    "backgroundColor": "#FBFBFC",
    "secondaryBackgroundColor": "#EFF1F4",
    "textColor": "#171B24",
    "borderColor": "#DDE1E7",
    "linkColor": "#1F7A7C",
}
_DARK = {
    "primaryColor": "#3FB6B3",
    "backgroundColor": "#12151B",
    "secondaryBackgroundColor": "#1D222B",
    "textColor": "#E9ECF1",
    "borderColor": "#323947",
    "linkColor": "#5CCBC8",
}

THEME = {
    "theme.baseRadius": "0.5rem",
    "theme.metricValueFontSize": "1.5rem",
    "theme.chartCategoricalColors": ["#2A9D9B", "#D9622B", "#3F6FB5", "#C79A1E", "#7A4FA3", "#B04A86"],
    "theme.chartSequentialColors": [
        *("#FBE3A2", "#F6C97B", "#EFAE5D", "#E5924A", "#D87640"),
        *("#C25C43", "#A3474C", "#803853", "#5B2C55", "#38204F"),
    ],
    **{f"theme.light.{name}": value for name, value in _LIGHT.items()},
    **{f"theme.dark.{name}": value for name, value in _DARK.items()},
}
"""Streamlit's options for the theme: the browser's preference chooses between light and dark."""

STYLE = """<style>
.stMainBlockContainer { padding: 4.25rem 2rem 3rem; max-width: 1500px; }
.stMainBlockContainer h1 { font-size: 1.6rem; padding: 0; }
.stMainBlockContainer h2 { font-size: 1.2rem; padding: .4rem 0 .2rem; }
@media (max-width: 640px) { .stMainBlockContainer { padding: 4rem .9rem 2rem; } }
</style>"""
"""For `st.html`: less empty space around the pictures than around text."""
