"""The rooms behind `ui.server`: what an HTTP service needs beside its routes."""
