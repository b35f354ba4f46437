"""What is seen of a layer in unperturbed runs: sums over a site, layer measures."""

from layertracer.tracing._observers.angular_distance import ANGULAR_DISTANCE
from layertracer.tracing._observers.block_influence import BLOCK_INFLUENCE
from layertracer.tracing._observers.protocol import register_layer_measure

register_layer_measure(BLOCK_INFLUENCE)
register_layer_measure(ANGULAR_DISTANCE)
