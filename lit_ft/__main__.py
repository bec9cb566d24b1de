"""`python -m lit_ft`."""

from lit_ft.cli import entry

if __name__ == "__main__":
    entry()
