"""How good each net's published weights are: top-1 accuracy on ImageNet, in percent.

From TF-Slim's README, its mobilenet_v1.md and nets/mobilenet/README.md, and from the table of
keras.io/api/applications. They rank nets as givers of features: between these accuracies and those
of fixed features on other data Kornblith, Shlens and Le found a correlation of 0.99 ("Do Better
ImageNet Models Transfer Better?", arXiv:1805.08974).
"""

from collections.abc import Mapping

TOP_1: Mapping[str, float] = {
    "inception_v1": 69.8,
    "inception_v2": 73.9,
    "inception_v3": 78.0,
    "inception_v4": 80.2,
    "inception_resnet_v2": 80.4,
    "resnet_v1_50": 75.2,
    "resnet_v1_101": 76.4,
    "resnet_v1_152": 76.8,
    "resnet_v2_50": 75.6,
    "resnet_v2_101": 77.0,
    "resnet_v2_152": 77.8,
    "vgg_16": 71.5,
    "vgg_19": 71.1,
    "mobilenet_v1": 70.9,
    "mobilenet_v1_075": 68.4,
    "mobilenet_v1_050": 63.3,
    "mobilenet_v1_025": 49.8,
    "mobilenet_v2": 71.8,
    "mobilenet_v2_140": 75.0,
    "mobilenet_v2_035": 60.3,
    "mobilenet_v3_large": 75.2,
    "mobilenet_v3_small": 67.5,
    "mobilenet_v3_large_minimalistic": 72.3,
    "mobilenet_v3_small_minimalistic": 61.9,
    "nasnet_mobile": 74.0,
    "nasnet_large": 82.7,
    "pnasnet_mobile": 74.2,
    "pnasnet_large": 82.9,
    "densenet_121": 75.0,
    "densenet_169": 76.2,
    "densenet_201": 77.3,
    "efficientnet_b0": 77.1,
    "efficientnet_b1": 79.1,
    "efficientnet_b2": 80.1,
    "efficientnet_b3": 81.6,
    "efficientnet_b4": 82.9,
    "efficientnet_v2_b0": 78.7,
    "efficientnet_v2_b1": 79.8,
    "efficientnet_v2_b2": 80.5,
    "efficientnet_v2_b3": 82.0,
    "efficientnet_v2_s": 83.9,
    "convnext_tiny": 81.3,
    "convnext_small": 82.3,
    "xception": 79.0,
}
