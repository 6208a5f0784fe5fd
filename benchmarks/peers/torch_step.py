"""Images per second of a training step in PyTorch; run by an environment that has it.

PEER/bin/python benchmarks/peers/torch_step.py --batch_size=8 --image_size=224 --precision=bfloat16
PEER/bin/python benchmarks/peers/torch_step.py --device=cuda --model=resnet50 --batch_size=256

PyTorch's own advice is followed: channels last, autocast, on a GPU also cuDNN's search for the
fastest kernels and the fused optimizer. Nets other than VGG-16 come from torchvision and timm.
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


def build(name: str, num_classes: int, image_size: int) -> nn.Module:
    if name == "vgg_16":
        return vgg_16(num_classes, image_size)
    if name == "mobilenet_v1":
        import timm

        return timm.create_model("mobilenetv1_100", num_classes=num_classes)
    import torchvision

    more = {"aux_logits": True, "init_weights": False} if name == "inception_v3" else {}
    return getattr(torchvision.models, name)(weights=None, num_classes=num_classes, **more)


def main() -> None:
    parser = argparse.ArgumentParser()
    names = ["vgg_16", "resnet50", "inception_v3", "mobilenet_v1"]
    parser.add_argument("--model", default="vgg_16", choices=names)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true", help="With torch.compile.")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--num_classes", type=int, default=1001)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    model = build(args.model, args.num_classes, args.image_size).train().to(args.device)
    model = model.to(memory_format=torch.channels_last)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last).to(args.device)
    labels = (torch.arange(args.batch_size) % args.num_classes).to(args.device)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
        optimizer = torch.optim.SGD(
            model.parameters(), lr=1e-4, momentum=0.9, weight_decay=4e-5, fused=True
        )
    else:
        optimizer = torch.optim.RMSprop(
            model.parameters(), lr=1e-4, alpha=0.9, momentum=0.9, eps=1.0, weight_decay=4e-5
        )
    loss = nn.CrossEntropyLoss()
    forward = torch.compile(model) if args.compile else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bfloat16"):
            outputs = forward(images)
        if hasattr(outputs, "aux_logits"):
            auxiliary = 0.4 * loss(outputs.aux_logits.float(), labels)
            total = loss(outputs.logits.float(), labels) + auxiliary
        else:
            total = loss(outputs.float(), labels)
        total.backward()
        optimizer.step()

    def steps(count: int) -> None:
        for _ in range(count):
            step()
        if args.device == "cuda":
            torch.cuda.synchronize()

    steps(5 if args.device == "cuda" else 3)
    began = time.perf_counter()
    steps(args.steps)
    print(json.dumps(args.batch_size * args.steps / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
