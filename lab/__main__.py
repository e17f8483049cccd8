"""`python -m lab`: the same as `muster lab`."""

from lab.cli import app

app(prog_name="python -m lab")
