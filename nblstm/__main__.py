"""`python -m nblstm` is the `nblstm` command."""

from nblstm.cli.main import main

main()
