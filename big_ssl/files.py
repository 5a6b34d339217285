"""Names of the files of a run, for those who write them and those who look at them from outside."""

import os
from pathlib import Path
from typing import Any

CONFIG, RESULT, METRICS = 'config.json', 'result.json', 'metrics.jsonl'
DIVERGED = 'diverged.json'
INIT_FROM, PARAMETERS = 'init_from.tsv', 'parameters.txt'
CHECKPOINTS = 'checkpoints'
PAIRS, REPORT = 'pairs.png', 'report.html'


def cache_folder() -> Path:
    """Where what can be made again is kept: `$BIG_SSL_CACHE`, else `~/.cache/big_ssl`."""
    return Path(os.environ.get('BIG_SSL_CACHE') or '~/.cache/big_ssl').expanduser()


def is_remote(path: Any) -> bool:
    """Whether a path is one of an object store, such as gs://."""
    return '://' in str(path)
