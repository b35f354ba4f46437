"""LayerTracer beside other ways to do the same job, on this machine: `make bench` and `make bench-quick`."""
