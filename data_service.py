"""A tf.data service: prepares training images on machines other than the one that trains.

On each machine with processors:   python data_service.py --port=5050 --host=HOST
On the machine that trains:        python train_image_classifier.py --data_service=HOST:5050 …

All must see the TFRecords under the same paths, and run the same version of this repository.
"""

import command_line
from command_line import say
from runs.options import DataServiceOptions


def main(options: DataServiceOptions) -> None:
    command_line.load_tensorflow()
    from runs import serve_data

    serve_data.serve(options, say)


if __name__ == "__main__":
    command_line.run(main, DataServiceOptions)
