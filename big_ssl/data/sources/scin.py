"""SCIN: photographs of skin conditions, up to three a case, given by internet users."""

import ast

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
dataset/scin_cases.csv
dataset/scin_labels.csv
dataset/images/-5831057575457252976.png"""
_LABEL = 'weighted_skin_condition_label'
_PATHS = ['image_1_path', 'image_2_path', 'image_3_path']
_FURTHER = {
    'age': 'age_group',
    'sex': 'sex_at_birth',
    'skin_type': 'fitzpatrick_skin_type',
    'race': 'combined_race',
    'category': 'related_category',
}
_SHOTS = {f'shot_{number}': f'image_{number}_shot_type' for number in (1, 2, 3)}
_TONES = {
    'skin_tone_us': 'monk_skin_tone_label_us',
    'skin_tone_india': 'monk_skin_tone_label_india',
}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    cases = rows.read(raw.needed_table('scin_cases.csv'), ['case_id', *_PATHS], _FURTHER | _SHOTS)
    labels = rows.read(raw.needed_table('scin_labels.csv'), ['case_id', _LABEL], _TONES)
    labels['label'] = rows.converted(labels, _LABEL, _heaviest)
    for name in ('label', *_TONES):
        cases[name] = rows.looked_up(cases['case_id'], labels, 'case_id', name)
    images = [_images(cases, number) for number in (1, 2, 3)]
    table = pd.concat(images).sort_index(kind='stable')
    if (repeated := table['image_path'].duplicated()).any():
        raw.announcements.append(
            f'{raw.path}: {repeated.sum()} images are named more than once; each is kept where it '
            'is named first'
        )
    table = table[~repeated]
    return rows.listing(raw, [table.assign(image_path=raw.images(table['image_path']))])


def _images(cases: pd.DataFrame, number: int) -> pd.DataFrame:
    cases = cases[cases[f'image_{number}_path'] != '']
    kept = cases[['case_id', 'label', LISTED_IN, *_TONES, *_FURTHER]]
    path, shot = cases[f'image_{number}_path'], cases[f'shot_{number}']
    return kept.assign(image_path=path, patient_id='', shot=shot)


def _heaviest(text: str) -> str:
    """The condition with the largest weight, of equal ones the first; '' where there is none."""
    try:
        weights = ast.literal_eval(text or '{}')
        return max(weights, key=lambda name: float(weights[name])) if weights else ''
    except (SyntaxError, ValueError, TypeError):
        raise ValueError('is no condition with weights') from None


SOURCE = PublishedSet(
    name='scin',
    title='SCIN, Skin Condition Image Network (Ward et al. 2024, arXiv:2402.18545)',
    url='https://github.com/google-research-datasets/scin',
    terms='SCIN Data Use License: sharing and adapting with attribution; no re-identification',
    layout=_LAYOUT,
    case='one contribution: one to three photographs of one skin condition',
    read=_read,
)
