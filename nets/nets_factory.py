"""The table of all nets.

How to add a net:

1. Write `nets/FAMILY.py` with one builder that serves all its variants from tables:

       def build(request, *, dropout_keep_prob=0.8, …options of the family) -> keras.Model

   It begins with `request.images(smallest=…)`. State the family's settings once in a
   `blocks.Blocks`, add layers with its methods under full slim scopes, and collect end points in a
   dict in slim's order. Logits come from `block.for_logits()`, so that they are float32. It ends
   with `request.model(images, end_points, logits, …)`. Leave out keyword arguments that the family
   has no use for.
2. Add a row to `NETS`. Settings of a variant that its name does not tell go into a
   `functools.partial` of the builder.
3. Put TF-Slim's figures of the net into tests/fixtures/slim_parity: tests/test_nets_parity.py then
   compares variables, end points and logits.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping

import keras

from foundation.errors import InputError
from nets import (
    alexnet,
    cifarnet,
    heads,
    inception_resnet_v2,
    inception_v1,
    inception_v2,
    inception_v3,
    inception_v4,
    keras_applications,
    layers,
    lenet,
    mobilenet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    names,
    nasnet,
    pnasnet,
    resnet,
    small_cnn,
    vgg,
)
from nets.blocks import Request

DTYPES = ("float32", "mixed_bfloat16")
_DECAY = "batch_norm_decay"


@dataclasses.dataclass(frozen=True)
class Net:
    """One network and what its checkpoints and tools expect of it."""

    name: str
    builder: Callable[..., keras.Model]
    image_size: int  # height and width in pixels it was made for
    preprocessing: str  # its recipe in preprocessing_factory
    scope: str  # the first part of all its slim names, "" where they have none in common
    background_class: bool  # its ImageNet checkpoint has 1001 outputs, and 0 is the background
    logits_node: str  # slim's node names, for frozen graphs
    predictions_node: str | None  # None: slim built no softmax
    channels: int = 3

    @property
    def checkpoint_outputs(self) -> int:
        """How many outputs an ImageNet checkpoint of it has."""
        return 1001 if self.background_class else 1000

    @property
    def options(self) -> dict[str, object]:
        """The keyword arguments that `build` takes for this net, with their defaults."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def build(
        self,
        num_classes: int,
        image_size: int | None = None,
        channels: int | None = None,
        *,
        dtype: str = "float32",
        **options,
    ) -> keras.Model:
        """`nets_factory.build` for this row."""
        if num_classes < 1:
            raise ValueError(f"{self.name}: num_classes={num_classes}; at least 1 is needed.")
        if unknown := options.keys() - self.options.keys():
            raise ValueError(
                f"{self.name} has no option {', '.join(sorted(unknown))}. "
                f"Its options: {', '.join(self.options)}."
            )
        if dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype={dtype!r} is none of {', '.join(DTYPES)}.")
        if not 0 < options.get("dropout_keep_prob", 1.0) <= 1:
            raise ValueError(
                f"{self.name}: dropout_keep_prob={options['dropout_keep_prob']} is the share that "
                "is kept; it must be above 0 and at most 1."
            )
        size, channels = image_size or self.image_size, channels or self.channels
        return self.builder(Request(self.name, num_classes, size, channels, dtype), **options)


def _inception(
    name: str,
    builder: Callable[..., keras.Model],
    scope: str,
    image_size: int = 224,
    logits: str = "Logits/SpatialSqueeze",
    predictions: str = "Predictions/Reshape_1",
) -> Net:
    """A row of the Inceptions and MobileNets; nodes are below `scope`."""
    return Net(
        name,
        builder,
        image_size=image_size,
        preprocessing="inception",
        scope=scope,
        background_class=True,
        logits_node=f"{scope}/{logits}",
        predictions_node=f"{scope}/{predictions}",
    )


def _mobilenet(name: str, **settings) -> Net:
    """A row of v2, v3 or EdgeTPU."""
    architecture = mobilenet_v3.ARCHITECTURES.get(name, mobilenet_v2.ARCHITECTURE)
    builder = functools.partial(mobilenet.build, architecture, **settings)
    return _inception(name, builder, architecture.scope, logits="Logits/output")


def _mobilenet_v1(name: str, depth_multiplier: float) -> Net:
    builder = functools.partial(mobilenet_v1.build, depth_multiplier=depth_multiplier)
    return _inception(name, builder, "MobilenetV1")


def _resnet(name: str, background_class: bool) -> Net:
    return Net(
        name,
        resnet.build,
        image_size=224,
        preprocessing="vgg",
        scope=name,
        background_class=background_class,
        logits_node=f"{name}/SpatialSqueeze",
        predictions_node=f"{name}/predictions/Reshape_1",
    )


def _nasnet(name: str, image_size: int, preprocessing: str = "inception", **settings) -> Net:
    """A row of NASNet or PNASNet; `settings` are slim's to train it."""
    architecture = (nasnet.ARCHITECTURES | pnasnet.ARCHITECTURES)[name]
    return Net(
        name,
        functools.partial(nasnet.build, architecture, **settings),
        image_size=image_size,
        preprocessing=preprocessing,
        scope="",
        background_class=True,
        logits_node="final_layer/FC/BiasAdd",
        predictions_node="final_layer/predictions",
    )


def _vgg(name: str, builder: Callable[..., keras.Model] = vgg.build, image_size: int = 224) -> Net:
    """A row of VGG, AlexNet or OverFeat, which end in a convolution fc8 and have no softmax."""
    return Net(
        name,
        builder,
        image_size=image_size,
        preprocessing="vgg",
        scope=name,
        background_class=False,
        logits_node=f"{name}/fc8/squeezed",
        predictions_node=None,
    )


def _keras(name: str, application: keras_applications.Application) -> Net:
    return Net(
        name,
        keras_applications.build,
        image_size=application.image_size,
        preprocessing=application.preprocessing,
        scope=application.scope,
        background_class=False,
        logits_node=f"{application.scope}/Logits",
        predictions_node=f"{application.scope}/Predictions",
    )


_ROWS = (
    Net(
        "lenet",
        lenet.build,
        image_size=28,
        preprocessing="lenet",
        scope="LeNet",
        background_class=False,
        logits_node="LeNet/fc4/BiasAdd",
        predictions_node="Predictions/Reshape_1",
        channels=1,
    ),
    Net(
        "cifarnet",
        cifarnet.build,
        image_size=32,
        preprocessing="cifarnet",
        scope="CifarNet",
        background_class=False,
        logits_node="CifarNet/logits/BiasAdd",
        predictions_node="CifarNet/Predictions/Reshape_1",
    ),
    _vgg("alexnet_v2", alexnet.build),
    _vgg("overfeat", alexnet.build, 231),
    _inception(
        "inception_v1",
        inception_v1.build,
        "InceptionV1",
        predictions="Logits/Predictions/Reshape_1",
    ),
    _inception("inception_v2", inception_v2.build, "InceptionV2"),
    _inception("inception_v3", inception_v3.build, "InceptionV3", 299),
    *(
        _inception(name, builder, scope, 299, "Logits/Logits/BiasAdd", "Logits/Predictions")
        for name, builder, scope in (
            ("inception_v4", inception_v4.build, "InceptionV4"),
            ("inception_resnet_v2", inception_resnet_v2.build, "InceptionResnetV2"),
        )
    ),
    _mobilenet_v1("mobilenet_v1", 1.0),
    _mobilenet_v1("mobilenet_v1_075", 0.75),
    _mobilenet_v1("mobilenet_v1_050", 0.5),
    _mobilenet_v1("mobilenet_v1_025", 0.25),
    _resnet("resnet_v1_50", background_class=False),
    _resnet("resnet_v1_101", background_class=False),
    _resnet("resnet_v1_152", background_class=False),
    _resnet("resnet_v1_200", background_class=False),
    _resnet("resnet_v2_50", background_class=True),
    _resnet("resnet_v2_101", background_class=True),
    _resnet("resnet_v2_152", background_class=True),
    _resnet("resnet_v2_200", background_class=True),
    _mobilenet("mobilenet_v2", depth_multiplier=1.0),
    _mobilenet("mobilenet_v2_140", depth_multiplier=1.4),
    _mobilenet("mobilenet_v2_035", depth_multiplier=0.35),
    _mobilenet("mobilenet_v3_large"),
    _mobilenet("mobilenet_v3_small"),
    _mobilenet("mobilenet_v3_large_minimalistic"),
    _mobilenet("mobilenet_v3_small_minimalistic"),
    _mobilenet("mobilenet_edgetpu"),
    _mobilenet("mobilenet_edgetpu_075", depth_multiplier=0.75),
    Net(
        "small_cnn",
        small_cnn.build,
        image_size=128,
        preprocessing="inception",
        scope="SmallCnn",
        background_class=False,
        logits_node="SmallCnn/logits/BiasAdd",
        predictions_node="SmallCnn/predictions",
    ),
    _nasnet(
        "nasnet_cifar",
        32,
        "cifarnet",
        dropout_keep_prob=1.0,
        drop_path_keep_prob=0.6,
        drop_path_steps=937_500,  # 600 epochs of CIFAR-10 in batches of 32
    ),
    _nasnet("nasnet_mobile", 224),
    _nasnet("nasnet_large", 331, drop_path_keep_prob=0.7),
    _nasnet("pnasnet_mobile", 224),
    _nasnet("pnasnet_large", 331, drop_path_keep_prob=0.6),
    _vgg("vgg_a"),
    _vgg("vgg_13"),
    _vgg("vgg_16"),
    _vgg("vgg_19"),
    *(_keras(*item) for item in keras_applications.APPLICATIONS.items()),
)
NETS: Mapping[str, Net] = {net.name: net for net in _ROWS}


def get(name: str) -> Net:
    """The row of a net.

    Raises:
      UsageError: no net has this name; the message has the closest names.
    """
    names.check(name)
    return NETS[name]


def build(
    name: str,
    num_classes: int,
    image_size: int | None = None,
    channels: int | None = None,
    *,
    dropout_keep_prob: float | None = None,
    batch_norm_decay: float | None = None,
    dtype: str = "float32",
    head: str | None = None,
    **options,
) -> keras.Model:
    """Builds a net with fresh weights.

    Args:
      name: a key of `NETS`.
      num_classes: outputs, the background class included where there is one.
      image_size: height and width in pixels; None means the net's own.
      channels: of the input; None means the net's own.
      dropout_keep_prob: None means slim's; nets without dropout refuse a number.
      batch_norm_decay: of all batch norms; None means slim's; nets without any refuse a number.
      dtype: what is computed in, "float32" or "mixed_bfloat16"; variables, logits and batch-norm
        statistics are float32 in both.
      head: a classifier in place of the net's own, such as "dense:512,dropout:0.5"; see
        `heads.attach`.
      **options: of the family; `get(name).options` lists them.

    Returns:
      A model from float32 [N, image_size, image_size, channels] to a dict with "logits", float32
      [N, num_classes] before the softmax, and "aux_logits" where the net has them.

    Raises:
      InputError: an unknown net, a head that can't be read, or too small an image.
      ValueError: an unknown option or a value that it can't have.
    """
    net = get(name)
    if dropout_keep_prob is not None:
        options["dropout_keep_prob"] = dropout_keep_prob
    if head and "fc_conv_padding" in net.options:  # fc6 goes, and with it the need of 224 pixels
        options = {"fc_conv_padding": "SAME", **options}
    model = net.build(num_classes, image_size, channels, dtype=dtype, **options)
    if batch_norm_decay is not None:
        _set_batch_norm_decay(model, batch_norm_decay)
    return heads.attach(model, head, num_classes, net.scope, dtype) if head else model


def _set_batch_norm_decay(model: keras.Model, decay: float) -> None:
    if not 0 <= decay < 1:
        raise InputError("write a number of at least 0 and below 1.", option=_DECAY, value=decay)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNorm)]
    if not norms:
        raise InputError(f"{model.name} has no batch norm.", option=_DECAY, value=decay)
    for layer in norms:
        layer.decay = decay


def end_points(model: keras.Model) -> Mapping[str, keras.KerasTensor]:
    """The intermediate outputs of a net under slim's names, in slim's order.

    `keras.Model(model.input, end_points(model)["PreLogits"])` computes one of them.
    """
    return model.end_points
