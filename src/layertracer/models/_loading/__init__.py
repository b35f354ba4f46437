"""Where a model comes from: an embedded name, the hub, a folder, an adapter; and where it is placed."""
