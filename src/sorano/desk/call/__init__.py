"""The guard of a call: who joined with a passkey, whose pictures carry their mark, challenges where there is doubt."""
