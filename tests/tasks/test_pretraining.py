import dataclasses
import math
import re

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from big_ssl.config import defaults
from big_ssl.data import training
from big_ssl.data.batches import Batch, Cropped
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.methods import simclr
from big_ssl.models import resnet
from big_ssl.tasks import build, monitor
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.state import initial_state
from tests import helpers

BATCH, VIEWS, SIZE = 16, 2, 16
COLLECTIVES = ('all-gather', 'all-reduce', 'reduce-scatter', 'collective-permute', 'all-to-all')


@pytest.fixture(scope='module')
def steps():
    """The compiled step, its initial state and a batch, for a mesh of 1 and of 8 devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGE_SIZES, 18, (1, 1))
        yield {count: make_step(count) for count in (1, 8)}


def make_step(devices: int, in_patient: int = 3, mask: bool = True):
    config = defaults()
    config.method.mask_same_patient = mask
    config.batch_size, config.image_size, config.method.temperature = BATCH, SIZE, 0.2
    config.method.projection_size = 16
    mesh = Mesh(np.array(jax.devices()[:devices]), ('data',))
    encoder = resnet.ResNet(depth=18, width=0.25, stem='small_images')
    method = simclr.make(config, encoder, mesh, 1)
    optimizer, schedule = optax.sgd(1.0), optax.constant_schedule(1.0)
    state = initial_state(method.network, optimizer, image_size=SIZE, seed=0, mesh=mesh)
    views = [[helpers.smooth(SIZE, SIZE, seed=i, noise=30) for i in (b, b)] for b in range(BATCH)]
    each = {'views': np.array(views), 'examples': np.arange(BATCH, dtype=np.uint32)}
    groups = np.arange(BATCH, dtype=np.int32) // in_patient
    batch = Batch(mesh_lib.spread(each, mesh), mesh_lib.copy(groups, mesh), Cropped())
    step = build.make_step(method, optimizer, schedule)
    return step.lower(state, batch).compile(), state, batch


@pytest.fixture(scope='module')
def taken(steps):
    """Parameters before, and state and metrics after one step."""
    out = {}
    for count, (step, state, batch) in steps.items():
        before = jax.tree.map(np.array, mesh_lib.fetch(state.params))
        after, metrics = step(state, batch)
        out[count] = before, mesh_lib.fetch(after), mesh_lib.fetch(metrics)
    return out


def test_eight_devices_have_the_loss_of_one(taken):
    (_, _, one), (_, _, eight) = taken[1], taken[8]
    assert one.keys() == eight.keys() >= {'loss', 'contrastive_top1', 'anchors', 'learning_rate'}
    for name, value in one.items():
        rtol = 1e-4 if 'norm' in name or 'ratio' in name else 1e-5
        np.testing.assert_allclose(eight[name], value, rtol=rtol, err_msg=name)
    assert 0.1 < one['loss'] < math.log(2 * BATCH) + 5


def test_eight_devices_have_the_gradient_of_one(taken):
    """Gradient descent at rate 1: the change of a parameter is its gradient."""
    (before, one, _), (same, eight, _) = taken[1], taken[8]
    jax.tree.map(np.testing.assert_array_equal, before, same)
    changes = [jax.tree.map(np.subtract, before, state.params) for state in (one, eight)]
    total = math.sqrt(sum((x.astype(float) ** 2).sum() for x in jax.tree.leaves(changes[0])))
    assert total > 0.01
    for name in ('grad_norm', 'update_norm'):
        np.testing.assert_allclose(taken[1][2][name], total, rtol=1e-4)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(changes[0]), jax.tree.leaves(changes[1])
    ):
        assert np.linalg.norm(a - b) <= 1e-4 * max(np.linalg.norm(a), 0.1 * total), path
    assert int(one.step) == int(eight.step) == 1


def test_batch_statistics_are_those_of_the_global_batch(taken):
    one, eight = taken[1][1].batch_stats, taken[8][1].batch_stats
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, eight)


def collectives(step) -> dict[str, list[int]]:
    """Elements of each collective's result in the compiled program, by kind."""
    found: dict[str, list[int]] = {kind: [] for kind in COLLECTIVES}
    for line in step.as_text().splitlines():
        if match := re.search(rf'= (.+?) ({"|".join(COLLECTIVES)})(?:-start)?\(', line):
            shapes = re.findall(r'\w+\[([\d,]*)\]', match[1])
            sizes = (math.prod(map(int, shape.split(','))) if shape else 1 for shape in shapes)
            found[match[2]].append(sum(sizes))
    return found


def test_devices_exchange_projections_once_each_way_and_sums_otherwise(steps):
    """One all-gather, one reduce-scatter; the all-reduces carry gradients and batch statistics."""
    step, state, _ = steps[8]
    found = collectives(step)
    assert found['all-gather'] == [BATCH * VIEWS * 16]
    assert found['reduce-scatter'] == [BATCH * VIEWS * 16 // 8]
    assert found['collective-permute'] == found['all-to-all'] == []
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    statistics = sum(x.size for x in jax.tree.leaves(state.batch_stats))
    assert parameters <= sum(found['all-reduce']) <= parameters + 4 * statistics + 64


def manifest_of(folder):
    rows = [
        ('0.png', 'A', 'P', 'x', 'train'),
        ('1.png', 'A', 'P', 'x', 'train'),
        ('2.png', 'B', 'P', 'y', 'train'),
        ('3.png', 'C', '', '', 'train'),
        ('4.png', '', '', 'y', 'train'),
        ('5.png', 'D', '', 'y', 'val'),
        ('6.png', 'E', '', 'unseen', 'val'),
        ('7.png', 'F', '', '', 'val'),
        ('8.png', 'G', '', 'x', 'test'),
        ('9.png', 'H', '', 'x', 'val'),
    ]
    return helpers.manifest_of(folder, rows)


def test_units_of_cases_and_of_images(tmp_path):
    config, manifest = defaults(), manifest_of(tmp_path)
    rows = manifest.rows(('train',))
    images = training.make_units(config, manifest, rows)
    assert len(images) == 5
    assert images.images.tolist() == [0, 1, 2, 3, 4]
    config.pairing = 'case'
    units = training.make_units(config, manifest, rows)
    assert np.split(units.images, units.offsets[1:-1])[0].tolist() == [0, 1]
    assert np.diff(units.offsets).tolist() == [2, 1, 1, 1]
    assert units.groups[0] == units.groups[1]  # one patient
    assert len(set(units.groups.tolist())) == 3


def test_pairs_of_cases_need_a_case_with_two_images(tmp_path):
    config, manifest = defaults(), manifest_of(tmp_path)
    config.pairing = 'case'
    with pytest.raises(InputError, match=r"no case has two images; is column 'case_id'"):
        training.make_units(config, manifest, manifest.rows(('val',)))


def test_bank_is_train_and_queries_are_val_with_known_labels(tmp_path):
    bank, query = monitor.bank_and_query(defaults(), manifest_of(tmp_path))
    assert bank is not None and query is not None
    assert bank.rows.tolist() == [0, 1, 2, 4]
    assert bank.classes.tolist() == [0, 0, 1, 1]
    assert query.rows.tolist() == [5, 9]
    assert query.classes.tolist() == [1, 0]
    assert bank.count == query.count == 2


def test_bank_and_queries_are_cut_to_a_limit(tmp_path):
    config = defaults()
    config.monitor.max_images = 2
    seen = set()
    for config.seed in range(20):
        bank, query = monitor.bank_and_query(config, manifest_of(tmp_path))
        assert bank is not None and query is not None
        assert len(set(bank.rows.tolist())) == 2 and len(query.rows) == 2
        assert set(bank.rows.tolist()) <= {0, 1, 2, 4}
        assert bank.classes.tolist() == [int(row in (2, 4)) for row in bank.rows]
        seen.add(tuple(bank.rows.tolist()))
    assert len(seen) > 1


@pytest.mark.parametrize(
    ('changes', 'labels'),
    [
        ({'labels.kind': 'multi'}, None),
        ({'splits.val': 'nowhere'}, None),
        ({'splits.val': ''}, None),
        ({}, {'train': ''}),
        ({}, {'val': ''}),
        ({}, {'train': 'only one'}),
        ({}, {'val': 'unseen'}),
    ],
)
def test_without_labels_the_knn_monitor_is_skipped(tmp_path, caplog, changes, labels):
    caplog.set_level('INFO', 'big_ssl')
    manifest, config = manifest_of(tmp_path), defaults()
    config.update_from_flattened_dict(changes)
    for split, label in (labels or {}).items():
        changed = np.where(manifest.split == split, label, manifest.label)
        manifest = dataclasses.replace(manifest, label=changed)
    assert monitor.bank_and_query(config, manifest) == (None, None)
    assert 'kNN monitor skipped' in caplog.text


def test_without_the_mask_every_example_is_a_negative(monkeypatch):
    """A batch of one patient has no negatives under the mask, and all without it."""
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1, 1))
    found = {}
    for mask in (True, False):
        step, state, batch = make_step(1, in_patient=BATCH, mask=mask)
        found[mask] = mesh_lib.fetch(step(state, batch)[1])
    assert found[True]['anchors'] == found[True]['loss'] == 0
    assert found[False]['anchors'] == 1 and found[False]['loss'] > 0.1


def test_groups_are_patients(tmp_path):
    config, manifest = defaults(), manifest_of(tmp_path)
    units = training.make_units(config, manifest, manifest.rows(('train',)))
    indices = Sampler(units, 0, 4, 2).batch(0)
    patients = [manifest.patient_id[row] or f'none {row}' for row in indices.images[:, 0]]
    for i in range(4):
        for j in range(4):
            assert (indices.groups[i] == indices.groups[j]) == (patients[i] == patients[j])
