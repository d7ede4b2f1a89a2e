"""The fraud desk: a risky request is confirmed on enrolled devices, outside the call that it came from."""
