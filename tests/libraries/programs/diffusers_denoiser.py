"""A small UNet trained to remove noise, then asked for a picture, guided by a loss on it."""

import torch
from diffusers import DDPMScheduler, UNet2DModel

torch.manual_seed(0)
model = UNet2DModel(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    layers_per_block=1,
    block_out_channels=(8, 16),
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
)
scheduler = DDPMScheduler(num_train_timesteps=20)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
pictures = torch.randn(8, 1, 8, 8).clamp(-1, 1)
model.train()
for step in range(3):
    noise = torch.randn_like(pictures)
    times = torch.randint(0, 20, (8,))
    noisy = scheduler.add_noise(pictures, noise, times)
    loss = torch.nn.functional.mse_loss(model(noisy, times).sample, noise)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(step, repr(loss.item()))

model.eval()
model.requires_grad_(False)
scheduler.set_timesteps(3)
latents = torch.randn(1, 1, 8, 8)
for time in scheduler.timesteps:
    latents = latents.detach().requires_grad_()
    predicted = model(latents, time).sample
    clean = scheduler.step(predicted, time, latents).pred_original_sample
    gradient = torch.autograd.grad((clean.mean() - 0.5).pow(2), latents)[0]
    latents = scheduler.step(predicted, time, latents.detach() - 0.5 * gradient).prev_sample
print(repr(latents.mean().item()))
