"""``python -m tso3``: the same as ``tso3``."""

from tso3.cli import process

if __name__ == "__main__":
    process()
