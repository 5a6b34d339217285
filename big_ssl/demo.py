"""`make demo`: MICLe on the embedded synthetic set, then few labels, against no pre-training."""

import json
import subprocess
import sys
from pathlib import Path

from absl import app, flags

from big_ssl.files import PAIRS, REPORT, RESULT

_WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the three runs.')

FEW_LABELS = '--config.label_fraction=0.1'
SHOWN = ('test/top1', 'test/balanced_accuracy', 'test/auc_macro')


def main(argv: list[str]) -> None:
    del argv
    folder = Path(_WORKDIR.value)
    micle, finetuned, scratch = (folder / name for name in ('micle', 'finetuned', 'scratch'))
    _run('MICLe pre-training, without labels', 'derm_micle', micle)
    _run('fine-tuning it with 10% of the labels', 'derm_finetune', finetuned,
         FEW_LABELS, f'--config.init_from={micle}')  # fmt: skip
    _run('the same labels without pre-training', 'derm_finetune', scratch, FEW_LABELS)
    print('\nAll data are SYNTHETIC (the embedded phantom set). With 10% of the labels:\n')
    print(f'{"":24}{"with MICLe":>26}{"random initialisation":>26}')
    with_micle, without = (json.loads((run / RESULT).read_text()) for run in
                           (finetuned, scratch))  # fmt: skip
    for name in SHOWN:
        print(f'{name:24}{_value(with_micle, name):>26}{_value(without, name):>26}')
    print('\nResults and pictures:')
    for run in (micle, finetuned, scratch):
        for name in (RESULT, REPORT, PAIRS):
            if (run / name).exists():
                print(f'  {run / name}')


def _run(what: str, config: str, workdir: Path, *flag: str) -> None:
    command = ['-m', 'big_ssl.main', f'--config=configs/{config}.py:demo', f'--workdir={workdir}']
    print(f'\n# {what}\npython {" ".join([*command, *flag])}', flush=True)
    code = subprocess.run([sys.executable, *command, *flag], check=False).returncode
    if code:
        sys.exit(code)


def _value(result: dict, name: str) -> str:
    if name not in result:
        return '–'
    ends = [result.get(f'{name}/{end}') for end in ('low', 'high')]
    return f'{result[name]:.3f}' + ('' if None in ends else f' [{ends[0]:.3f}, {ends[1]:.3f}]')


if __name__ == '__main__':
    app.run(main)
