"""A small convolutional network learns to tell stripes from checkers, from rings, from noise."""

import argparse
import logging
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset, random_split

logger = logging.getLogger("convnet")
CLASSES = ["horizontal", "vertical", "checker", "ring"]


class PatternDataset(Dataset):
    """Grey 16x16 patterns with noise."""

    def __init__(self, n, size=16, noise=0.6, transform=None):
        self.size = size
        self.transform = transform
        self.labels = torch.arange(n) % len(CLASSES)
        rows = torch.arange(size).view(-1, 1).expand(size, size)
        cols = torch.arange(size).view(1, -1).expand(size, size)
        centre = (size - 1) / 2
        radius = ((rows - centre) ** 2 + (cols - centre) ** 2).sqrt()
        patterns = torch.stack(
            [
                (rows // 2 % 2).float(),
                (cols // 2 % 2).float(),
                ((rows // 2 + cols // 2) % 2).float(),
                (radius // 2 % 2).float(),
            ]
        )
        self.images = patterns[self.labels].unsqueeze(1)
        self.images += noise * torch.randn_like(self.images)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image, label = self.images[index], self.labels[index]
        if self.transform is not None:
            image = self.transform(image)
        return image, label


class RandomShift:
    def __init__(self, pixels):
        self.pixels = pixels

    def __call__(self, image):
        p = self.pixels
        padded = F.pad(image, (p, p, p, p), mode="constant")
        top, left = torch.randint(0, 2 * p + 1, (2,)).tolist()
        size = image.shape[-1]
        return padded[:, top : top + size, left : left + size]


class RandomFlip:
    def __call__(self, image):
        if torch.rand(1).item() < 0.5:
            return image.flip(-1)
        return image


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for t in self.transforms:
            image = t(image)
        return image


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self, num_classes=len(CLASSES), width=8):
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(1, width),
            nn.MaxPool2d(2),
            ConvBlock(width, 2 * width),
            nn.MaxPool2d(2),
            ConvBlock(2 * width, 2 * width),
        )
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(2 * width, 32)
        self.fc2 = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, 1)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


class AverageMeter:
    def __init__(self):
        self.sum = 0.0
        self.count = 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


def accuracy(output, target):
    pred = output.argmax(dim=1, keepdim=True)
    correct = pred.eq(target.view_as(pred)).sum().item()
    return correct / target.size(0)


def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    losses, top1 = AverageMeter(), AverageMeter()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), data.size(0))
        top1.update(accuracy(output, target), data.size(0))
        if batch_idx % args.log_interval == 0:
            print(
                "Train Epoch: {} [{}/{}]\tLoss: {:.4f}\tAcc: {:.2f}".format(
                    epoch, batch_idx * len(data), len(train_loader.dataset), losses.avg, top1.avg
                )
            )


def test(model, device, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(test_loader.dataset)
    print(f"Test set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{len(test_loader.dataset)}")
    return correct / len(test_loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="Pattern classification")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N")
    parser.add_argument("--epochs", type=int, default=2, metavar="N")
    parser.add_argument("--samples", type=int, default=160, metavar="N")
    parser.add_argument("--lr", type=float, default=0.05, metavar="LR")
    parser.add_argument("--momentum", type=float, default=0.9, metavar="M")
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--log-interval", type=int, default=4, metavar="N")
    parser.add_argument("--freeze-bn", action="store_true", help="keep the batch norms as they are")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")

    torch.manual_seed(args.seed)
    device = torch.device("cpu")
    dataset = PatternDataset(args.samples, transform=Compose([RandomShift(2), RandomFlip()]))
    train_set, test_set = random_split(dataset, [int(0.8 * args.samples), args.samples - int(0.8 * args.samples)])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=32)

    model = Net().to(device)
    if args.freeze_bn:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for p in module.parameters():
                    p.requires_grad = False
    trainable = [p for p in model.parameters() if p.requires_grad]
    logger.info("%d trainable parameters", sum(p.numel() for p in trainable))
    optimizer = optim.SGD(trainable, lr=args.lr, momentum=args.momentum, nesterov=True)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=args.gamma)

    best = 0.0
    start = time.time()
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        best = max(best, test(model, device, test_loader))
        scheduler.step()
    logger.info("%.1f s", time.time() - start)
    print(f"best accuracy {best:.3f}")


if __name__ == "__main__":
    main()
