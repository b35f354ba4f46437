"""`python -m layertracer`: the same as the command `layertracer`."""

from layertracer.cli import main

if __name__ == "__main__":
    main(prog_name="layertracer")
