"""Spyglass, the part that people see: the command line and what it draws."""
