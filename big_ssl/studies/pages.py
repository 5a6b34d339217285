"""The sections of a study's report."""

from collections.abc import Mapping, Sequence

from etils import epath
from ml_collections import ConfigDict

from big_ssl.report.page import Section
from big_ssl.studies import cells, comparison_pages, design, model_pages
from big_ssl.studies.measure import Groups
from big_ssl.studies.results import read_result
from big_ssl.studies.run import DONE, Run
from big_ssl.studies.tables import NAMES, Tables
from big_ssl.tasks.pages import SYNTHETIC


def highlights(
    config: ConfigDict, states: Mapping[str, str], known: Tables
) -> list[tuple[str, str]]:
    """What stands on top: label and value."""
    done = sum(state == DONE for state in states.values())
    found = [('runs', f'{done} of {len(states)} done')]
    for split in dict.fromkeys(known.summaries.get('split', [])):
        for metric in config.compared[:1]:
            rows = known.summaries[
                (known.summaries['split'] == split)
                & (known.summaries['metric'] == metric)
                & known.summaries['whole']
            ]
            if len(rows):
                best = cells.highest(rows)
                found.append(
                    (
                        f'highest {NAMES[metric]}, {split}',
                        f'{best.method}: {cells.written(best.value, best.low, best.high)}',
                    )
                )
    if len(known.comparisons):
        clear = int((known.comparisons['p_holm'] < 0.05).sum())
        found.append(
            ('differences with p < 0.05 after Holm', f'{clear} of {len(known.comparisons)}')
        )
    for name, fraction in known.labels_needed.items():
        found.append((f'labels needed, {name}', f'{fraction:.0%}'))
    return found


def sections(
    config: ConfigDict,
    done: Sequence[Run],
    study: epath.Path,
    groups: Groups,
    known: Tables,
    synthetic: bool,
) -> list[Section]:
    """What was found, sections with nothing to show left out."""
    found = [
        comparison_pages.overview(config, known),
        comparison_pages.differences(known),
        comparison_pages.labels(config, known, _validation(done, study)),
        comparison_pages.shift(known),
        comparison_pages.searched(known),
        *(model_pages.by_class(split, list(some), known) for split, some in groups.items()),
        comparison_pages.subgroups(known),
        model_pages.embeddings(config, done, study),
        model_pages.pairs(done, study),
        model_pages.curves(config, done, study),
    ]
    kept = [section for section in found if section is not None]
    if kept and synthetic:
        kept.insert(0, Section('SYNTHETIC data', SYNTHETIC))
    return kept


def _validation(done: Sequence[Run], study: epath.Path) -> str:
    tuned = (run for run in done if run.facts['role'] == design.FINETUNING)
    return next((run.check(study).config.labels.val for run in tuned), '')


def is_synthetic(done: Sequence[Run], study: epath.Path) -> bool:
    return any(read_result(run, study).get('trained_on/synthetic') for run in done)
