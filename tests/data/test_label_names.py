import numpy as np
import pytest

from big_ssl.config import defaults
from big_ssl.data import label_names
from big_ssl.errors import InputError
from tests.helpers import manifest_of

# Facts: the classes of Azizi et al. 2021, section 3.
PAPER = {
    'acne', 'actinic keratosis', 'allergic contact dermatitis', 'alopecia areata',
    'androgenetic alopecia', 'basal cell carcinoma', 'cyst', 'eczema', 'folliculitis',
    'hidradenitis', 'lentigo', 'melanocytic nevus', 'melanoma',
    'post-inflammatory hyperpigmentation', 'psoriasis', 'squamous cell carcinoma',
    'seborrheic keratosis', 'scar', 'seborrheic dermatitis', 'skin tag', 'stasis dermatitis',
    'tinea', 'tinea versicolor', 'urticaria', 'verruca vulgaris', 'vitiligo',
}  # fmt: skip


def names(classes=(), **settings):
    labels = defaults().labels
    labels.update(settings)
    return label_names.names_of(labels, classes)


def renamed(folder, labels, classes=(), **settings):
    rows = [(f'{i}.png', '', '', label, 'train') for i, label in enumerate(labels)]
    manifest = manifest_of(folder, rows)
    found = label_names.rename(manifest, names(classes, **settings))
    assert found.fingerprint() == manifest.fingerprint()
    return found.label.tolist()


def written(folder, text):
    path = folder / 'map.csv'
    path.write_text(text)
    return str(path)


def test_without_settings_labels_stay(tmp_path):
    assert renamed(tmp_path, ['x', '', 'y|z']) == ['x', '', 'y|z']


def test_scin_onto_the_papers_27_classes(tmp_path):
    found = names(map='scin', other='other')
    assert len(found.classes) == 27
    assert set(found.classes) == PAPER | {'other'}
    labels = ['SCC/SCCIS', 'SK/ISK', 'Verruca vulgaris', 'verruca VULGARIS', 'Insect Bite', '']
    assert renamed(tmp_path, labels, map='scin', other='other') == [
        'squamous cell carcinoma', 'seborrheic keratosis', 'verruca vulgaris', 'verruca vulgaris',
        'other', '',
    ]  # fmt: skip


@pytest.mark.parametrize('name', ['scin', 'chestxray14'])
def test_shipped_maps_say_who_made_them(name):
    text = (label_names._SHIPPED / f'{name}.csv').read_text()
    assert 'Made by' in ' '.join(line for line in text.splitlines() if line.startswith('#'))


def test_chestxray14_onto_chexpert(tmp_path):
    settings = {'kind': 'multi', 'map': 'chestxray14', 'other': 'ignore', 'negative': 'No Finding'}
    labels = ['Effusion|Hernia', 'No Finding', 'Hernia', 'Edema|Effusion', '']
    classes = ('Atelectasis', 'Cardiomegaly', 'Consolidation', 'Edema', 'Pleural Effusion')
    found = renamed(tmp_path, labels, classes, **settings)
    assert found == ['Pleural Effusion', '|', '|', 'Edema|Pleural Effusion', '']


def test_an_uncertain_no_finding_stays_one(tmp_path):
    """The shipped map makes nothing of "No Finding": with the mark it is doubt of every class."""
    classes = ('Atelectasis', 'Cardiomegaly', 'Consolidation', 'Edema', 'Pleural Effusion')
    labels = ['No Finding?', 'no finding?', 'Effusion|No Finding?', 'No Finding?|No Finding',
              'Hernia?', 'Hernia|No Finding?']  # fmt: skip
    settings = {'kind': 'multi', 'other': 'ignore', 'negative': 'No Finding'}
    expected = ['No Finding?', 'No Finding?', 'Pleural Effusion|No Finding?', '|', '|',
                'No Finding?']  # fmt: skip
    assert renamed(tmp_path, labels, classes, map='chestxray14', **settings) == expected
    without_map = [name.replace('Effusion', 'Pleural Effusion') for name in labels]
    expected[3] = 'No Finding'
    assert renamed(tmp_path, without_map, classes, **settings) == expected


def test_a_users_map(tmp_path):
    path = written(tmp_path, '# by me\nlabel,class\nNEV, nevus\nMel,melanoma\nSCC,\n')
    assert names(map=path).classes == ('nevus', 'melanoma')
    labels = ['nev', 'MEL', 'scc', 'nevus']
    assert renamed(tmp_path, labels, map=path) == ['nevus', 'melanoma', '', 'nevus']


def test_a_map_that_only_leaves_out(tmp_path):
    path = written(tmp_path, 'label,class\nmelanoma,\n')
    assert renamed(tmp_path, ['Melanoma', 'nevus'], map=path) == ['', 'nevus']


def test_a_map_with_the_mark_of_a_spreadsheet_program(tmp_path):
    path = written(tmp_path, '\ufefflabel,class\nmel,melanoma\nnev,nevus\n')
    assert renamed(tmp_path, ['mel', 'nev'], map=path) == ['melanoma', 'nevus']


def test_classes_without_regard_to_case(tmp_path):
    found = renamed(tmp_path, ['Nevus', 'NE\u0301', 'n\xe9'], classes=('nevus', 'né'))
    assert found == ['nevus', 'né', 'né']
    settings = {'kind': 'multi', 'negative': 'No Finding', 'classes': ('Edema',), 'other': 'ignore'}
    assert renamed(tmp_path, ['edema?|NO FINDING', 'Mass'], **settings) == [
        'Edema?|No Finding',
        '|',
    ]
    found = renamed(tmp_path, ['Squamous Cell Carcinoma'], map='scin', other='other')
    assert found == ['squamous cell carcinoma']


def test_labels_outside_the_task(tmp_path):
    with pytest.raises(InputError, match="row 3: label 'wart' is none of the classes"):
        renamed(tmp_path, ['nevus', 'wart'], classes=('nevus', 'scar'))
    found = renamed(tmp_path, ['nevus', 'wart'], classes=('nevus', 'scar'), other='scar')
    assert found == ['nevus', 'scar']
    found = renamed(tmp_path, ['nevus', 'wart'], classes=('nevus', 'scar'), other='ignore')
    assert found == ['nevus', '']


def test_uncertain_labels_keep_their_mark(tmp_path):
    path = written(tmp_path, 'label,class\nE,edema\nOedema,edema\n')
    labels = ['E?', 'e?|Oedema', 'oedema|E?']
    assert renamed(tmp_path, labels, kind='multi', map=path) == ['edema?', 'edema', 'edema']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('label,klass\na,b\n', 'columns label and class'),
        ('label,class\na,b\nA,c\n', "label 'A' is mapped twice"),
        ('', 'columns label and class'),
        ('label,class\n', 'no row after the header'),
        ('label,class\na\n', "row 'a' needs a label, a comma and a class"),
        ('label,class\n,a\n', "row '' needs a label"),
        ('label,class\na,b\nc,B\n', "classes 'b' and 'B' are one name"),
        ('label,class\n' + 'a' * 200_000 + ',b\n', 'cannot be read'),
    ],
)
def test_wrong_maps(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        names(map=written(tmp_path, text))


def test_wrong_settings(tmp_path):
    with pytest.raises(InputError, match='shipped: chestxray14, scin'):
        names(map=str(tmp_path / 'none.csv'))
    with pytest.raises(InputError, match=r'labels.other needs labels.classes or labels.map'):
        names(other='rest')
    with pytest.raises(InputError, match=r'labels.other=rest is no class of the model \(a, b\)'):
        names(classes=('a', 'b'), other='rest')
    path = written(tmp_path, 'label,class\nx,c\n')
    with pytest.raises(InputError, match=r"class 'c' is none of the task \(a, b\)"):
        names(classes=('a', 'b'), map=path)
    assert np.all(names(classes=('a', 'b')).classes == ('a', 'b'))
    labels = defaults().labels
    for classes, message in (
        ((0, 1), '0 is no name'),
        (('a', 'b', 'A'), "'a' and 'A' are one name"),
    ):
        labels.classes = classes
        with pytest.raises(InputError, match=message):
            label_names.names_of(labels)
