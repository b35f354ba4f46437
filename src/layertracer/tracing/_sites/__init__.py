"""Where perturbations act: what leaves a block, what a branch adds to the stream, what a layer remembers."""

from layertracer.tracing._sites.block_output import BlockOutput
from layertracer.tracing._sites.branch_output import BranchOutput
from layertracer.tracing._sites.layer_cache import LayerCacheSite
from layertracer.tracing._sites.protocol import register_site

for _site in (BlockOutput(), BranchOutput(role="mixer"), BranchOutput(role="mlp"), LayerCacheSite()):
    register_site(_site)
