"""The page in the browser: search, the corpus, training. Streamlit draws it; `indexer` finds what it shows."""
