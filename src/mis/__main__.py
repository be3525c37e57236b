"""`python -m mis`: the command line without an installed entry point, as the workflow's rules call it."""

from mis.cli import app

app()
