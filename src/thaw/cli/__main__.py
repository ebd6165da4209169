"""`python -m thaw.cli`: the same as the command `thaw`."""

from thaw.cli import main

main()
