"""`python -m hubblefork` is the command `hubblefork`."""

from hubblefork.cli import main

main()
