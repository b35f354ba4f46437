"""Where SmolLM2-135M starts naming antonyms, and where it breaks most easily."""

import layertracer as lt

model = lt.load_model("smollm2")
task = lt.load_task("antonym", n_shot=3, limit=8)
trace = lt.trace(model, task, perturbation=lt.Mask(site="mixer_output"))

particle, vulnerable = trace.task_particle, trace.vulnerable_layer
print(f"{trace.solved_share:.0%} of {trace.n_prompts} prompts solved by {model.name}, {model.anatomy.n_layers} layers")
print(f"task particle: layer {particle.layer}, found on {particle.share_found:.0%} of the prompts")
standing = "which stands out" if vulnerable.is_clear else f"one of {len(vulnerable.contenders)} that could be it"
print(f"vulnerable layer: {vulnerable.layer}, {standing}, {vulnerable.mean_js_bits:.2f} bits")
print(f"report: {trace.report('quickstart.html')}")
