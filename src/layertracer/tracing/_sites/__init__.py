"""Where perturbations act: what leaves a block, what a branch adds to the stream, what a layer remembers.

And, for substitutes of mixers alone, how far back attention sees.
"""

from layertracer._types import Registration
from layertracer.tracing._sites.attention_reach import AttentionReach
from layertracer.tracing._sites.block_output import BlockOutput
from layertracer.tracing._sites.branch_output import BranchOutput
from layertracer.tracing._sites.layer_cache import LayerCacheSite
from layertracer.tracing._sites.protocol import SITES, register_site

for _site in (BlockOutput(), BranchOutput(role="mixer"), BranchOutput(role="mlp"), LayerCacheSite()):
    register_site(_site)

_reach = AttentionReach()
Registration(SITES, _reach.facts.name, _reach)  # its facts stay unlisted: no specification names it
