"""`python -m selfalign_cli` is the `selfalign` command (what `torchrun -m` starts)."""

from selfalign_cli.cli.app import main

if __name__ == "__main__":
    main()
