"""TF-Slim's training step, timed; runs in an environment with TensorFlow 2.12 and tf-slim 1.1.

The nets that the published tf-slim carries are alexnet_v2, inception_v1 to v3, overfeat, resnet_v1,
resnet_v2 and vgg. Loss, optimizer and weight decay are those of TF-Slim's training script.
"""

import argparse
import json
import time

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim
from tf_slim.nets import inception, resnet_v1, resnet_v2, vgg

NETS = {
    "inception_v1": (inception.inception_v1, inception.inception_v1_arg_scope),
    "inception_v2": (inception.inception_v2, inception.inception_v2_arg_scope),
    "inception_v3": (inception.inception_v3, inception.inception_v3_arg_scope),
    "resnet_v1_50": (resnet_v1.resnet_v1_50, resnet_v1.resnet_arg_scope),
    "resnet_v2_50": (resnet_v2.resnet_v2_50, resnet_v2.resnet_arg_scope),
    "vgg_16": (vgg.vgg_16, vgg.vgg_arg_scope),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name", default="inception_v3")
    for name in ("batch_size", "image_size", "num_classes", "steps"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--trainable_scopes", default="", help="Comma-separated; empty: all.")
    args = parser.parse_args()

    tf.disable_eager_execution()
    rng = np.random.default_rng(0)
    shape = (args.batch_size, args.image_size, args.image_size, 3)
    images = tf.constant(rng.uniform(-1, 1, shape).astype(np.float32))
    labels = np.arange(args.batch_size) % args.num_classes
    one_hot = slim.one_hot_encoding(labels, args.num_classes)
    net, scope = NETS[args.model_name]
    with slim.arg_scope(scope(weight_decay=4e-5)):
        logits, end_points = net(images, args.num_classes, is_training=True)
    if "AuxLogits" in end_points:
        tf.losses.softmax_cross_entropy(one_hot, end_points["AuxLogits"], weights=0.4)
    tf.losses.softmax_cross_entropy(one_hot, logits)
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.RMSPropOptimizer(1e-4, decay=0.9, momentum=0.9, epsilon=1.0)
    scopes = [scope for scope in args.trainable_scopes.split(",") if scope]
    trained = [v for scope in scopes for v in tf.trainable_variables(scope)] or None
    gradients = optimizer.compute_gradients(tf.losses.get_total_loss(), trained)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies([optimizer.apply_gradients(gradients, step), *updates]):
        train = tf.no_op()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(train)
        began = time.perf_counter()
        for _ in range(args.steps):
            session.run(train)
        print(json.dumps(args.batch_size * args.steps / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
