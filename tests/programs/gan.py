"""A generative adversarial network on a ring of eight Gaussians."""

import argparse
import copy
import math
import os
import tempfile

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def ring_of_gaussians(n, modes=8, radius=2.0, std=0.05):
    angles = torch.randint(modes, (n,)) * (2 * math.pi / modes)
    centres = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return centres + std * torch.randn(n, 2)


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        torch.nn.init.normal_(m.weight, 0.0, 0.2)
        torch.nn.init.zeros_(m.bias)
    elif classname.find("BatchNorm") != -1:
        torch.nn.init.normal_(m.weight, 1.0, 0.02)
        torch.nn.init.zeros_(m.bias)


class Generator(nn.Module):
    def __init__(self, nz, ngf):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(nz, ngf),
            nn.BatchNorm1d(ngf),
            nn.ReLU(True),
            nn.Linear(ngf, ngf),
            nn.BatchNorm1d(ngf),
            nn.ReLU(True),
            nn.Linear(ngf, 2),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self, ndf):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, ndf),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(ndf, ndf),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(ndf, 1),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


class EMA:
    """A slow copy of a network, never trained."""

    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = copy.deepcopy(model)
        for p in self.shadow.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for slow, fast in zip(self.shadow.parameters(), model.parameters()):
            slow.mul_(self.decay).add_(fast, alpha=1 - self.decay)
        for slow, fast in zip(self.shadow.buffers(), model.buffers()):
            slow.copy_(fast)


class Trainer:
    def __init__(self, opt):
        self.opt = opt
        self.netG = Generator(opt.nz, opt.ngf)
        self.netG.apply(weights_init)
        self.netD = Discriminator(opt.ndf)
        self.netD.apply(weights_init)
        self.ema = EMA(self.netG, decay=0.9)
        self.criterion = nn.BCELoss()
        self.fixed_noise = torch.randn(64, opt.nz)
        self.optimizerD = torch.optim.Adam(self.netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
        self.optimizerG = torch.optim.Adam(self.netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
        self.real_label = 1.0
        self.fake_label = 0.0

    def step(self, real):
        batch_size = real.size(0)
        label = torch.full((batch_size,), self.real_label)

        # (1) Update D: maximize log(D(x)) + log(1 - D(G(z)))
        self.netD.zero_grad()
        output = self.netD(real)
        errD_real = self.criterion(output, label)
        errD_real.backward()
        D_x = output.mean().item()

        noise = torch.randn(batch_size, self.opt.nz)
        fake = self.netG(noise)
        label.fill_(self.fake_label)
        output = self.netD(fake.detach())
        errD_fake = self.criterion(output, label)
        errD_fake.backward()
        D_G_z1 = output.mean().item()
        errD = errD_real + errD_fake
        self.optimizerD.step()

        # (2) Update G: maximize log(D(G(z)))
        self.netG.zero_grad()
        label.fill_(self.real_label)
        output = self.netD(fake)
        errG = self.criterion(output, label)
        errG.backward()
        D_G_z2 = output.mean().item()
        self.optimizerG.step()
        self.ema.update(self.netG)
        return errD.item(), errG.item(), D_x, D_G_z1, D_G_z2

    def train(self, dataloader):
        for epoch in range(self.opt.niter):
            for i, (data,) in enumerate(dataloader, 0):
                errD, errG, D_x, D_G_z1, D_G_z2 = self.step(data)
                if i % self.opt.log_interval == 0:
                    print(
                        "[%d/%d][%d/%d] Loss_D: %.4f Loss_G: %.4f D(x): %.4f D(G(z)): %.4f / %.4f"
                        % (epoch, self.opt.niter, i, len(dataloader), errD, errG, D_x, D_G_z1, D_G_z2)
                    )
            print("mean distance from the ring: %.4f" % self.distance())

    def distance(self):
        self.ema.shadow.eval()
        with torch.no_grad():
            points = self.ema.shadow(self.fixed_noise)
        return (points.norm(dim=1) - 2.0).abs().mean().item()

    def save(self, folder):
        torch.save(self.netG.state_dict(), os.path.join(folder, "netG.pth"))
        torch.save(self.netD.state_dict(), os.path.join(folder, "netD.pth"))


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchSize", type=int, default=32, help="input batch size")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--nz", type=int, default=8, help="size of the latent z vector")
    parser.add_argument("--ngf", type=int, default=32)
    parser.add_argument("--ndf", type=int, default=32)
    parser.add_argument("--niter", type=int, default=2, help="number of epochs to train for")
    parser.add_argument("--lr", type=float, default=0.002, help="learning rate")
    parser.add_argument("--beta1", type=float, default=0.5, help="beta1 for adam")
    parser.add_argument("--log-interval", type=int, default=4)
    parser.add_argument("--manualSeed", type=int, default=999, help="manual seed")
    return parser.parse_args()


def main():
    opt = parse_args()
    torch.manual_seed(opt.manualSeed)
    dataset = TensorDataset(ring_of_gaussians(opt.samples))
    dataloader = DataLoader(dataset, batch_size=opt.batchSize, shuffle=True)
    trainer = Trainer(opt)
    trainer.train(dataloader)
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(folder)
        print(sorted(os.listdir(folder)))


if __name__ == "__main__":
    main()
