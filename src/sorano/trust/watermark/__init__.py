"""The invisible mark: its pattern and its code, putting it in, finding it again, and where it is missing."""
