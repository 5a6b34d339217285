"""CBIS-DDSM: digitised film mammograms with masses and calcifications; the whole mammograms."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder, join, listed

_LAYOUT = """\
mass_case_description_train_set.csv
mass_case_description_test_set.csv
calc_case_description_train_set.csv
calc_case_description_test_set.csv
CBIS-DDSM/Mass-Training_P_00001_LEFT_CC/STUDY/SERIES/000000.dcm (or 1-1.dcm)"""
_BY_SEVERITY = ('', 'BENIGN_WITHOUT_CALLBACK', 'BENIGN', 'MALIGNANT')
_KINDS = {'mass': 'mass', 'calc': 'calcification'}
_OTHER_NAMES = {
    'breast density': 'breast_density',
    'left or right breast': 'side',
    'image view': 'view',
    'image file path': 'od_img_path',
}
_IMAGE = ['patient_id', 'side', 'view']


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT, leaf=r'(Mass|Calc)-(Training|Test)_P_.+')
    parts, absent = [], []
    for kind in _KINDS:
        for split in ('train', 'test'):
            name = f'{kind}_case_description_{split}_set.csv'
            if found := raw.table(name):
                parts.append(_abnormalities(found).assign(split=split, kind=_KINDS[kind]))
            else:
                absent.append(name)
    if not parts:
        raise raw.lacks(f'no file {" or ".join(absent)}')
    if absent:
        raw.announcements.append(f'{raw.path}: no {", ".join(absent)}')
    table = _in_one_split(pd.concat(parts, ignore_index=True), raw)
    images = _mammograms(table.assign(image_path=_found(raw, table['od_img_path'])), raw)
    return rows.listing(raw, [images])


def _abnormalities(path: str) -> pd.DataFrame:
    needed = [*_IMAGE, 'pathology', 'od_img_path']
    table = rows.read(path, needed, {'density': 'breast_density'}, _OTHER_NAMES)
    rows.converted(table, 'side', rows.one_of('LEFT', 'RIGHT'))
    rows.converted(table, 'view', rows.one_of('CC', 'MLO'))
    rows.converted(table, 'pathology', rows.one_of(*_BY_SEVERITY[1:]))
    table['severity'] = table['pathology'].map(_BY_SEVERITY.index)
    return table


def _in_one_split(table: pd.DataFrame, raw: RawFolder) -> pd.DataFrame:
    """Patients of both splits (one by a mass, one by a calcification) go to `test`."""
    tested = table['patient_id'].isin(table.loc[table['split'] == 'test', 'patient_id'])
    moved = tested & (table['split'] == 'train')
    if moved.any():
        raw.announcements.append(
            f'{raw.path}: {table.loc[moved, "patient_id"].nunique()} patients are in both train '
            'and test (by masses and by calcifications): all their images are test'
        )
    return table.assign(split=table['split'].mask(moved, 'test'))


def _mammogram(raw: RawFolder, folder: str, published: list[str]) -> str:
    """Relative path of the file in a mammogram's folder; '' where it is not there.

    Downloads name study, series and file in their own ways (`1-1.dcm`), but there is one of each.
    """
    for name in published:
        folders, files = listed(join(raw.path, folder)) if folder else ([], [])
        names = [*folders, *files]
        if name not in names and len(names) != 1:
            return ''
        folder = join(folder, name if name in names else names[0])
    return folder


def _found(raw: RawFolder, published: pd.Series) -> pd.Series:
    paths = {path: path.replace('\\', '/').split('/') for path in published.unique()}
    folders = raw.folders(parts[0] for parts in paths.values())
    places = zip(paths, folders, paths.values())
    return published.map({path: _mammogram(raw, at, parts[1:]) for path, at, parts in places})


def _mammograms(table: pd.DataFrame, raw: RawFolder) -> pd.DataFrame:
    """One row for each breast and view, whose label is the worst of its abnormalities."""
    images = table.groupby(_IMAGE, sort=False, as_index=False).agg(
        image_path=('image_path', 'max'),
        severity=('severity', 'max'),
        listed=(LISTED_IN, 'first'),
        split=('split', 'first'),
        abnormality=('kind', lambda kinds: '|'.join(sorted(set(kinds)))),
        density=('density', 'first'),
    )
    both = images['abnormality'].str.contains('|', regex=False).sum()
    raw.announcements.append(
        f'{raw.path}: {len(table)} abnormalities in {len(images)} mammograms, each labelled by the '
        f'worst of its own; {both} are published twice, by a mass and by a calcification, and '
        'taken once'
    )
    return pd.DataFrame(
        {
            'image_path': images['image_path'],
            'case_id': images['patient_id'] + '/' + images['side'],
            'patient_id': images['patient_id'],
            'label': images['severity'].map(_BY_SEVERITY.__getitem__),
            LISTED_IN: images['listed'],
            'split': images['split'],
            'side': images['side'],
            'view': images['view'],
            'abnormality': images['abnormality'],
            'density': images['density'],
        }
    )


SOURCE = PublishedSet(
    name='cbis_ddsm',
    title='CBIS-DDSM (Lee et al. 2017, Sci. Data 4, 170177, doi:10.1038/sdata.2017.177)',
    url='https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY',
    terms='CC BY 3.0',
    layout=_LAYOUT,
    case='one breast, as PATIENT/SIDE: its CC and MLO views, whose labels may differ',
    read=_read,
)
