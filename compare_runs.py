"""Compares trained nets on the same examples: which is better, how surely, where, at what cost.

python compare_runs.py eval_small eval_transferred
python compare_runs.py train_small train_transferred --exports=exported_small,exported_transferred
"""

from command_line import load_tensorflow, run, say
from runs import checks
from runs.options import CompareRunsOptions


def main(options: CompareRunsOptions) -> None:
    checks.comparison(options)
    load_tensorflow()
    from runs.compare import compare

    compare(options, say)


if __name__ == "__main__":
    run(main, CompareRunsOptions, words="run")
