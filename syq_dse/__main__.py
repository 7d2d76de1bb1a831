"""`python -m syq_dse`: the command line without the installed script."""

from syq_dse.cli import main

if __name__ == "__main__":
    main()
