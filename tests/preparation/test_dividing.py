import collections
import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from big_ssl.data.splits import NAMES
from big_ssl.preparation.dividing import InTwoSplits, apart, made, units
from big_ssl.preparation.duplicates import across_splits
from big_ssl.preparation.settings import DROP, FAIL, KEEP, Settings
from tests.preparation.test_duplicates import BLANK, flipped

SETTINGS = Settings(out='')


def table(rows):
    """Images of which some columns are given; a picture is (seed, bits turned round)."""
    images = pd.DataFrame(
        [{'case_id': '', 'patient_id': '', 'label': '', 'split': '', **row} for row in rows]
    )
    images['picture'] = [row.get('picture', (1000 + i, 0)) for i, row in enumerate(rows)]
    images['perceptual_hash'] = [flipped(*p) if p else BLANK for p in images['picture']]
    contents = [row.get('content', i) for i, row in enumerate(rows)]
    images['sha256'] = [hashlib.sha256(str(one).encode()).hexdigest() for one in contents]
    images['image_path'] = [f'{i}.png' for i in range(len(rows))]
    images['listed_in'] = [f'table.csv row {i + 2}' for i in range(len(rows))]
    images['where'] = '/data/' + images['listed_in']
    return images


def divided(rows, known=None, settings=SETTINGS):
    split, lines, found = made(table(rows), settings, known or {})
    again = across_splits(table(rows).assign(split=split))
    pd.testing.assert_frame_equal(found.pairs, again.pairs)
    np.testing.assert_array_equal(found.group, again.group)
    assert len(split) == len(rows) and set(split) - set((known or {}).values()) <= set(NAMES)
    return split.tolist(), lines


def strangers(count, **more):
    return [{'patient_id': f'p{i}', **more} for i in range(count)]


def of_patients(rows, split):
    """Patient → split; each has one."""
    found = collections.defaultdict(set)
    for row, name in zip(rows, split):
        found[row['patient_id']].add(name)
    assert all(len(names) == 1 for names in found.values())
    return {patient: names.pop() for patient, names in found.items()}


def test_what_may_not_be_divided():
    rows = [
        {'patient_id': 'a', 'case_id': 'b'}, {'patient_id': 'a'}, {'case_id': 'a'}, {}, {},
        {'case_id': '4.png'},
    ]  # fmt: skip
    expected = ['patient a', 'patient a', 'case a', 'image 3.png', 'image 4.png', 'case 4.png']
    assert units(table(rows)).tolist() == expected


def film(frames, **more):
    """Images of one file, named as the table of images names them."""
    images = table([{'picture': (i, 0), **more} for i in range(frames)]).assign(frames=frames)
    images['image_path'] = [f'film #1.dcm#{i}' for i in range(frames)]
    return images


def test_frames_of_a_file_are_one_unit_and_files_named_so_are_not():
    alone = table([{}]).assign(frames=1, image_path='scan#7')
    images = pd.concat([film(3), alone, film(2, case_id='c')], ignore_index=True)
    expected = ['image film #1.dcm'] * 3 + ['image scan#7'] + ['case c'] * 2
    assert units(images).tolist() == expected


def test_frames_of_a_file_are_in_one_split_and_stay_there():
    images = film(40)
    split, *_ = made(images, SETTINGS, {})
    assert len(set(split)) == 1
    earlier = {f'image film #1.dcm#{i}': 'another' for i in range(40)}  # as a record set tells
    assert set(made(images, SETTINGS, earlier)[0]) == {'another'}


def test_patients_stay_together_and_labels_have_their_shares():
    rows = [{'patient_id': f'p{i % 500}', 'label': 'ab'[i % 500 % 2]} for i in range(1500)]
    split, lines = divided(rows)
    found = of_patients(rows, split)
    for label in range(2):
        counts = collections.Counter(list(found.values())[label::2])
        for name, share in zip(NAMES, (0.7, 0.1, 0.2)):
            assert abs(counts[name] - 250 * share) < 4  # Weyl's discrepancy of 250 is 3.2
    (line,) = lines
    counts = collections.Counter(split)
    assert ', '.join(f'{name} {counts[name]}' for name in NAMES) in line and 'seed 0' in line


def test_shares_and_seed_are_those_of_the_settings():
    rows = strangers(300, label='x')
    counts = collections.Counter(
        divided(rows, settings=dataclasses.replace(SETTINGS, shares=(0.2, 0.5, 0.3)))[0]
    )
    assert abs(counts['train'] - 60) < 4 and abs(counts['val'] - 150) < 4
    other = dataclasses.replace(SETTINGS, split_seed=1)
    assert divided(rows)[0] != divided(rows, settings=other)[0]


def test_an_uncertain_label_and_one_of_several_are_that_label():
    """Strata of `a` and of `b`: 'a?' is 'a', and 'a|b' counts as the rarer 'b'."""
    names = ['a', ' a? ', '|a|', 'a'] * 50
    plain = divided([{**row, 'label': 'a'} for row in strangers(200)])[0]
    assert divided([{**row, 'label': name} for row, name in zip(strangers(200), names)])[0] == plain
    for seed in range(8):
        rare = np.random.default_rng(seed).choice(400, 50, replace=False)
        labels = np.full(400, 'a', object)
        labels[rare] = 'a|b'
        rows = [{**row, 'label': label} for row, label in zip(strangers(400), labels)]
        counts = collections.Counter(np.array(divided(rows)[0])[rare].tolist())
        assert abs(counts['train'] - 35) < 3 and abs(counts['test'] - 10) < 3


def test_copies_of_a_picture_go_to_the_split_of_the_first():
    """Two hundred patients, two by two with one picture, twenty bits apart."""
    rows = [{**row, 'picture': (i % 100, i // 100 * 20)} for i, row in enumerate(strangers(200))]
    alone = divided(strangers(200))[0]
    split, lines = divided(rows)
    assert split[:100] == alone[:100] and split[100:] == split[:100]
    moved = sum(one != other for one, other in zip(alone, split))
    assert moved > 20 and lines[1].startswith(f'{moved} images went to the split of a picture')


def test_copies_take_the_whole_patient_along():
    rows = strangers(40) + strangers(40)
    for i in range(20):
        rows[20 + i]['picture'] = rows[40 + i]['picture'] = (i, 0)
    found = of_patients(rows, divided(rows)[0])
    assert all(found[f'p{20 + i}'] == found[f'p{i}'] for i in range(20))


@pytest.mark.parametrize('steps', [3, 12])
def test_a_chain_of_copies_ends_in_one_split(steps):
    """Neighbours differ in 20 bits, the ends in more than are allowed."""
    chains = [{'picture': (chain, 20 * step)} for step in range(steps) for chain in range(30)]
    rows = [{**row, **chain} for row, chain in zip(strangers(30 * steps), chains)]
    split = np.array(divided(rows)[0]).reshape(steps, 30)
    assert (split == split[0]).all() and split[0].tolist() == divided(rows[:30])[0]


def test_a_chain_over_patients_ends_in_one_split():
    """The second picture of each patient is the first of the next."""
    rows = [{'patient_id': f'p{i // 2}', 'picture': ((i + 1) // 2, 0)} for i in range(60)]
    assert len(set(divided(rows)[0])) == 1


def test_equal_blank_files_stay_together_and_others_do_not():
    rows = [{**row, 'picture': None, 'content': i // 2} for i, row in enumerate(strangers(200))]
    split = divided(rows)[0]
    assert split[::2] == split[1::2] and set(split) == set(NAMES)


def test_known_patients_are_not_moved_and_draw_their_copies():
    rows = [{**row, 'picture': (i % 50, 0)} for i, row in enumerate(strangers(100))]
    known = {f'patient p{i}': ('test', 'clinic')[i % 2] for i in range(50, 100)}
    split = divided(rows, known)[0]
    assert split[50:] == ['test', 'clinic'] * 25 and split[:50] == split[50:]


def test_known_patients_who_share_a_picture_stay_apart():
    rows = strangers(3, picture=(0, 0))
    known = {'patient p1': 'val', 'patient p2': 'test'}
    assert divided(rows, known)[0] == ['val', 'val', 'test']


ROW = st.fixed_dictionaries(
    {
        'patient_id': st.integers(0, 8).map(lambda i: f'p{i}'),
        'label': st.sampled_from(['', 'a', 'b', 'a|b']),
        'picture': st.none() | st.tuples(st.integers(0, 6), st.sampled_from([0, 20, 40])),
        'content': st.integers(0, 2),
    }
)


def copies(rows, split):
    """Pairs of images in two splits that are one picture, by their definition."""

    def bits(one, other):
        return abs(one['picture'][1] - other['picture'][1])

    return [
        (i, j)
        for i, one in enumerate(rows)
        for j, other in enumerate(rows)
        if split[i] != split[j]
        and (one['picture'] is None) == (other['picture'] is None)
        and (
            one['content'] == other['content'] if one['picture'] is None
            else one['picture'][0] == other['picture'][0] and bits(one, other) <= 24
        )
    ]  # fmt: skip


@given(st.lists(ROW, min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_patient_and_no_picture_is_in_two_splits(rows):
    split = divided(rows)[0]
    of_patients(rows, split)
    assert not copies(rows, split)


@given(st.lists(ROW, min_size=1, max_size=20), st.lists(st.integers(0, 99), max_size=15))
@settings(max_examples=100, deadline=None)
def test_appended_patients_move_nobody(rows, copied):
    """New patients with pictures of their own, or each with a copy of an earlier one."""
    more = [{**rows[i % len(rows)], 'patient_id': f'new {i}'} for i in copied]
    more += [{'patient_id': f'other {i}', 'content': 9, 'label': 'a'} for i in range(5)]
    assert divided(rows + more)[0][: len(rows)] == divided(rows)[0]


def images_in(*rows):
    """Images of these (split, picture)s, each of its own patient."""
    return table([{'patient_id': f'p{i}', 'split': split, 'picture': one}
                  for i, (split, one) in enumerate(rows)])  # fmt: skip


def with_duplicates(how):
    return dataclasses.replace(SETTINGS, duplicates=how)


@pytest.mark.parametrize('how', [FAIL, KEEP, DROP])
def test_images_without_copies_stay(how):
    images = images_in(('train', (0, 0)), ('train', (0, 0)), ('test', (1, 0)), ('', (1, 0)))
    found = apart(images, with_duplicates(how))
    pd.testing.assert_frame_equal(found.images, images)
    assert found.dropped.empty and found.duplicates.pairs.empty and found.announcements == ()
    assert 'problem' in found.dropped


LEAK = images_in(
    ('val', (5, 0)), ('train', (0, 0)), ('test', (0, 16)), ('train', (0, 0)), ('val', (1, 0)),
    ('train', (1, 20)), ('', (0, 0)),
)  # fmt: skip


def test_a_picture_in_two_splits_is_an_error_that_names_both():
    with pytest.raises(InTwoSplits) as caught:
        apart(LEAK.set_index(LEAK.index + 70), with_duplicates(FAIL))
    message, found = str(caught.value), caught.value.table
    assert '\n' not in message and 'give --duplicates=drop' in message
    for part in ('1.png', "'train'", '2.png', "'test'", '/data/table.csv row', '16 of 256 bits',
                 'table.csv row 3', 'table.csv row 4', '2 pictures are in more'):  # fmt: skip
        assert part in message
    assert found['differing_bits'].tolist() == [16, 20]
    sides = found[['image_path_1', 'image_path_2']].to_numpy().tolist()
    assert sorted(map(sorted, sides)) == [['1.png', '2.png'], ['4.png', '5.png']]
    for _, row in found.iterrows():
        for side in '12':
            i = int(row[f'image_path_{side}'][0])
            for name in ('listed_in', 'patient_id', 'split', 'label', 'case_id'):
                assert row[f'{name}_{side}'] == LEAK[name][i]


def test_pictures_in_two_splits_are_kept_if_asked():
    found = apart(LEAK, with_duplicates(KEEP))
    pd.testing.assert_frame_equal(found.images, LEAK)
    assert len(found.duplicates.pairs) == 2 and found.dropped.empty
    assert found.announcements == ('2 pictures are in more than one split, and are kept',)


def test_copies_of_a_picture_of_another_split_are_left_out():
    found = apart(LEAK.set_index(LEAK.index * 2 + 5), with_duplicates(DROP))
    assert found.images['image_path'].tolist() == ['0.png', '2.png', '4.png', '6.png']
    assert dict(zip(found.dropped['image_path'], found.dropped['problem'])) == {
        '1.png': "the same picture as table.csv row 4 in split 'test'",
        '3.png': "the same picture as table.csv row 4 in split 'test'",
        '5.png': "the same picture as table.csv row 6 in split 'val'",
    }
    assert found.announcements == ('3 images are copies of one in another split, and are left out',)
    assert not set(found.images.index) & set(found.dropped.index)


ORDER = ('train', 'val', 'other', 'test')  # the later of two keeps its copy


@given(st.lists(st.tuples(st.sampled_from(ORDER), ROW), min_size=1, max_size=25))
@settings(max_examples=100, deadline=None)
def test_what_is_left_out_is_never_of_the_test_split_and_nothing_is_left_twice(rows):
    images = table([{**row, 'split': split} for split, row in rows])
    found = apart(images, with_duplicates(DROP))
    gone, left = found.dropped.index.tolist(), found.images.index.tolist()
    assert sorted(gone + left) == list(range(len(rows)))
    assert 'test' not in found.dropped['split'].tolist()
    only, split = [row for _, row in rows], [split for split, _ in rows]
    pairs = copies(only, split)
    assert not [pair for pair in pairs if not set(pair) & set(gone)]
    lower = {i for i, j in pairs if ORDER.index(split[i]) < ORDER.index(split[j])}
    assert set(gone) == lower
