"""Guidance by a loss on the picture, with the UNet called under no_grad as pipelines do.

https://github.com/huggingface/diffusers/issues/4594
"""

import torch
from diffusers import DDPMScheduler, UNet2DModel

torch.manual_seed(0)
unet = UNet2DModel(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    layers_per_block=1,
    block_out_channels=(8, 16),
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
).eval()
scheduler = DDPMScheduler(num_train_timesteps=20)
scheduler.set_timesteps(3)
latents = torch.randn(1, 1, 8, 8)
for time in scheduler.timesteps:
    latents = latents.detach().requires_grad_()
    with torch.no_grad():  # cause
        predicted = unet(latents, time).sample
        clean = scheduler.step(predicted, time, latents).pred_original_sample
    loss = (clean.mean() - 0.5).pow(2)
    gradient = torch.autograd.grad(loss, latents)[0]
    latents = latents.detach() - 0.5 * gradient
print(repr(latents.mean().item()))
