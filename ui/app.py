"""What Streamlit runs for every visitor and after every click: the frame around the three pages."""

import streamlit as st

from ui.page import address, corpus_page, search_page, training_page
from ui.page.asset import asset
from ui.page.look import STYLE

st.set_page_config(page_title="Spyglass", page_icon=asset("favicon.svg"), layout="wide")
st.logo(asset("logo.svg"), size="large")
st.html(STYLE)
search = st.Page(search_page.show, title="Search", icon=":material/image_search:", url_path="search", default=True)
corpus = st.Page(corpus_page.show, title="Corpus", icon=":material/photo_library:", url_path="corpus")
training = st.Page(training_page.show, title="Training", icon=":material/model_training:", url_path="training")
page = st.navigation([search, corpus, training], position="top")
if address.wants_search():
    st.switch_page(search)
page.run()
