"""Names what is in pictures, with a model that export_model.py wrote.

python classify_image.py --model=exported --image=photo.jpg
python classify_image.py --model=exported/frozen_graph.pb --top_k=1 --csv=answers.csv photos/*.jpg
"""

from command_line import load_tensorflow, printer, run, say
from foundation.errors import InputError
from runs import checks, pictures
from runs.options import ClassifyImageOptions


def main(options: ClassifyImageOptions) -> None:
    checks.classification(options)
    pictures.find(options.classify.image)
    load_tensorflow()
    from runs.classify import classify

    answers = classify(options, say, printer.note)
    if answers.failures:
        count = len(answers.failures)
        total = count + len(answers.classes)
        raise InputError(f"{count} of {total} pictures could not be classified.")


if __name__ == "__main__":
    run(main, ClassifyImageOptions, words="image")
