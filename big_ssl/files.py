"""Names of the files of a run, for those who write them and those who look at them from outside."""

CONFIG, RESULT, METRICS = 'config.json', 'result.json', 'metrics.jsonl'
DIVERGED = 'diverged.json'
CHECKPOINTS = 'checkpoints'
PAIRS, REPORT = 'pairs.png', 'report.html'
