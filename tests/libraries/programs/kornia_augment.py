"""A registration by a learned homography, and a classifier trained on augmented pictures."""

import kornia
import kornia.augmentation as K
import torch
from torch import nn

torch.manual_seed(0)
moving, fixed = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
homography = nn.Parameter(torch.eye(3)[None])
optimizer = torch.optim.Adam([homography], lr=1e-2)
for step in range(3):
    optimizer.zero_grad()
    warped = kornia.geometry.transform.warp_perspective(moving, homography, dsize=(16, 16))
    loss = (kornia.filters.gaussian_blur2d(warped, (3, 3), (1.0, 1.0)) - fixed).abs().mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

augment = nn.Sequential(K.RandomAffine(15.0, p=0.8), K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0))
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
pictures, labels = torch.rand(8, 3, 8, 8), torch.randint(0, 2, (8,))
for step in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(augment(pictures)), labels)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))
