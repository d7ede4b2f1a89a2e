"""Foreign media: read as players show them, with limits, and written whole or not at all."""
