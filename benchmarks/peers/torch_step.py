"""Images per second of a VGG-16 training step in PyTorch; run by an environment that has it.

PEER/bin/python benchmarks/peers/torch_step.py --batch_size=8 --image_size=224 --precision=bfloat16

Where a processor is faster with it, PyTorch's own advice is followed: channels last, and autocast.
"""

import argparse
import json
import time

import torch
from torch import nn


def vgg_16(num_classes: int, image_size: int) -> nn.Module:
    """Configuration D of https://arxiv.org/abs/1409.1556 with dropout."""
    layers, channels = [], 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    features = channels * (image_size // 32) ** 2
    for size in (features, 4096):
        layers += [nn.Flatten(), nn.Linear(size, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(4096, num_classes))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--num_classes", type=int, default=1001)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.manual_seed(0)
    model = vgg_16(args.num_classes, args.image_size).to(memory_format=torch.channels_last)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(args.batch_size) % args.num_classes
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=1e-4, alpha=0.9, momentum=0.9, eps=1.0, weight_decay=4e-5
    )
    loss = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bfloat16"):
            logits = model(images)
        loss(logits.float(), labels).backward()
        optimizer.step()

    for _ in range(3):
        step()
    began = time.perf_counter()
    for _ in range(args.steps):
        step()
    print(json.dumps(args.batch_size * args.steps / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
