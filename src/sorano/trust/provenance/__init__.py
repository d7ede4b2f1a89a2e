"""Who says where a file is from: keys and roots, signed credentials (C2PA), labels, and the store of manifests."""
