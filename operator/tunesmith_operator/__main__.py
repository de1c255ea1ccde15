"""`python -m tunesmith_operator`."""

from tunesmith_operator.main import main

if __name__ == "__main__":
    main()
