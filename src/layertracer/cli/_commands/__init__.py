"""The subcommands of `layertracer`, one file each."""
