"""Conversion as TF-Slim's download_and_convert scripts do it, for comparison.

Run as a process of its own: each file is read, decoded in a session for its height and width, and
written into a record by one thread.
"""

import glob
import os
import sys


def main(image_dir: str, output: str) -> None:
    import tensorflow.compat.v1 as tf

    files = sorted(glob.glob(os.path.join(image_dir, "*", "*")))
    classes = sorted({os.path.basename(os.path.dirname(file)) for file in files})
    with tf.Graph().as_default(), tf.Session() as session:
        data = tf.placeholder(tf.string)
        decoded = tf.image.decode_jpeg(data, channels=3)
        with tf.python_io.TFRecordWriter(output) as writer:
            for file in files:
                encoded = tf.gfile.GFile(file, "rb").read()
                height, width, _ = session.run(decoded, {data: encoded}).shape
                label = classes.index(os.path.basename(os.path.dirname(file)))
                features = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[encoded])
                    ),
                    "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"jpg"])),
                }
                for name, value in (("class/label", label), ("height", height), ("width", width)):
                    features[f"image/{name}"] = tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[value])
                    )
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
