"""TF-Slim's own graph on a checkpoint; runs in an environment with TensorFlow 2.12 and tf-slim 1.1.

Reads images.npy, restores --checkpoint (or draws weights and writes them in both formats) and
writes the logits.
"""

import argparse

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim
from tf_slim.nets import inception, resnet_v1, vgg

NETS = {
    "inception_v1": (inception.inception_v1, inception.inception_v1_arg_scope),
    "inception_v3": (inception.inception_v3, inception.inception_v3_arg_scope),
    "resnet_v1_50": (resnet_v1.resnet_v1_50, resnet_v1.resnet_arg_scope),
    "vgg_16": (vgg.vgg_16, vgg.vgg_arg_scope),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name", choices=sorted(NETS))
    parser.add_argument("--num_classes", type=int)
    parser.add_argument("--images", help="a .npy file of float32 [N, S, S, 3]")
    parser.add_argument("--logits", help="the .npy file to write, float32 [N, num_classes]")
    parser.add_argument("--checkpoint", help="to restore")
    parser.add_argument("--write_v1", help="the checkpoint to write in format V1")
    parser.add_argument("--write_v2", help="the checkpoint to write in format V2")
    args = parser.parse_args()

    tf.disable_eager_execution()
    tf.set_random_seed(1)
    images = np.load(args.images)
    net, scope = NETS[args.model_name]
    inputs = tf.constant(images)
    with slim.arg_scope(scope()):
        logits, _ = net(inputs, args.num_classes, is_training=False)
    if len(logits.shape) > 2:  # ResNets keep their rows and columns
        logits = tf.squeeze(logits, [1, 2])
    variables = slim.get_model_variables()
    with tf.Session() as session:
        if args.checkpoint:
            tf.train.Saver(variables).restore(session, args.checkpoint)
        else:
            session.run(tf.global_variables_initializer())
            rng = np.random.default_rng(1)
            for variable in variables:  # as drawn, these say nothing
                if len(variable.shape) == 1:
                    variable.load(rng.uniform(0.5, 1.5, variable.shape), session)
            for path, version in (
                (args.write_v1, tf.train.SaverDef.V1),
                (args.write_v2, tf.train.SaverDef.V2),
            ):
                saver = tf.train.Saver(variables, write_version=version)
                saver.save(session, path, write_meta_graph=False, write_state=False)
        np.save(args.logits, session.run(logits))


if __name__ == "__main__":
    main()
