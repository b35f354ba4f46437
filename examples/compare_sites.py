"""Which part of a hybrid's layers the answer depends on: one trace for each site, on the same prompts."""

import layertracer as lt

model = lt.load_model("mini/hybrid")
task = lt.load_task("country-capital", n_shot=4, limit=16)

print(f"{'site':14} {'largest at':>10} {'JS (bits)':>10}  {'contenders':>10}  largest first")
for site in ("block_output", "mixer_output", "mlp_output", "state"):
    trace = lt.trace(model, task, perturbation=lt.Mask(site=site, draws=5))
    mean_js_bits = trace.js_bits.mean(axis=(0, 1))
    found = trace.vulnerable_layer
    order = ", ".join(str(layer) for layer in mean_js_bits.argsort()[::-1][:5])
    print(f"{site:14} {found.layer:>10} {found.mean_js_bits:>10.3f}  {len(found.contenders):>10}  {order}")
