"""`python -m likely.cli`."""

from likely.cli import main

main()
