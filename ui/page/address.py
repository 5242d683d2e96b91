"""What is asked, in the address of the page: read before anything is drawn, written whenever something is changed."""

import streamlit as st

from ui.page.query_state import QueryState

_LAST, _NEXT = "last_search", "search_next"


def read() -> QueryState:
    """What the address asks for; a visitor who comes back from another page finds what was asked before."""
    params = {name: st.query_params.get_all(name) for name in st.query_params}
    if not params and _LAST in st.session_state:
        write(st.session_state[_LAST])
        return st.session_state[_LAST]
    return QueryState.from_params(params)


def write(state: QueryState) -> None:
    """Let the address ask for this."""
    st.session_state[_LAST] = state
    st.query_params.from_dict(state.to_params())


def search_next(state: QueryState) -> None:
    """Let the search page show this in the next run, whatever page is open now."""
    st.session_state[_LAST], st.session_state[_NEXT] = state, True


def wants_search() -> bool:
    """Whether `search_next` was called since this was asked last."""
    return st.session_state.pop(_NEXT, False)
