"""`big_ssl.data.training_dataset` and `evaluation_dataset`, as the README shows them."""

import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from PIL import Image

import big_ssl.data
from big_ssl import config as config_lib
from big_ssl.data import feed
from big_ssl.tasks import training
from tests.helpers import save, smooth, write_table


@pytest.fixture
def config(tmp_path):
    rows = []
    for i in range(12):
        save(tmp_path / f'{i}.png', smooth(40, 50, seed=i))
        split = 'train' if i < 9 else 'test'
        rows.append((f'{i}.png', f'c{i // 3}', f'p{i // 3}', 'ab'[i % 3 == 0], split))
    found = config_lib.defaults()
    found.dataset.manifest = write_table(tmp_path / 'table.csv', rows)
    found.pairing, found.batch_size, found.image_size = 'case', 4, 16
    found.aggregate = 'none'  # cases here have images of two labels
    found.splits.val = ''
    return config_lib.settle(found)


def test_batches_of_pretraining_are_those_of_a_run(config):
    dataset = big_ssl.data.training_dataset(config)
    assert isinstance(dataset, tf.data.Dataset)
    assert dataset.element_spec == {
        'views': tf.TensorSpec([4, 2, 16, 16, 3], tf.uint8),
        'examples': tf.TensorSpec([4], tf.uint32),
        'groups': tf.TensorSpec([4], tf.int32),
    }
    found = list(dataset.take(3).as_numpy_iterator())
    assert found[1]['examples'].tolist() == [4, 5, 6, 7]
    later = big_ssl.data.training_dataset(config, first_step=2)
    np.testing.assert_array_equal(next(later.as_numpy_iterator())['views'], found[2]['views'])
    brighter = dataset.map(lambda batch: batch | {'views': 255 - batch['views']})
    inverted = next(brighter.as_numpy_iterator())['views']
    np.testing.assert_array_equal(inverted, 255 - found[0]['views'])


def test_batches_of_finetuning_have_targets(config):
    config.task = 'supervised'
    batch = next(big_ssl.data.training_dataset(config).as_numpy_iterator())
    assert batch['views'].shape == (4, 1, 16, 16, 3)
    assert batch['targets'].dtype == np.int32 and set(batch['targets']) <= {0, 1}


def test_evaluation_images_are_each_there_once(config, tmp_path):
    config.batch_size = 2
    found = list(big_ssl.data.evaluation_dataset(config).as_numpy_iterator())
    assert [batch['rows'].tolist() for batch in found] == [[9, 10], [11]]
    image = Image.open(tmp_path / '11.png').crop((8, 3, 43, 38)).resize((16, 16), Image.BILINEAR)
    np.testing.assert_array_equal(found[1]['images'][0], np.asarray(image))


@pytest.mark.parametrize('task', ['contrastive', 'supervised'])
def test_a_training_batch_comes_from_a_dataset(config, task, monkeypatch, tmp_path):
    """What the step is given went through `tf.data.Dataset.map`."""
    config.task = task
    config.total_epochs, config.total_steps, config.batch_size = None, 1, 8
    config.warmup_epochs = None
    config.warmup_steps = 0
    config.model.depth, config.model.width, config.select = 18, 0.25, 'last'
    config.splits.evaluate = 'test'
    config = config_lib.settle(config)
    mapped = []
    original = tf.data.Dataset.map

    def noting(self, function, *args, **kwargs):
        mapped.append(original(self, function, *args, **kwargs))
        return mapped[-1]

    monkeypatch.setattr(tf.data.Dataset, 'map', noting)
    given = []
    of_host = feed._from_host

    def watched(*settings):
        batches = of_host(*settings)

        def some(steps):
            for batch in batches(steps):
                given.append((batch, len(mapped)))
                yield batch

        return feed.Batches(some, batches.like)

    monkeypatch.setattr(feed, '_from_host', watched)
    run = training.run
    run(config, epath.Path(tmp_path / 'run'))
    specs = [dataset.element_spec for dataset in mapped]
    views = [spec['views'] for spec in specs if isinstance(spec, dict) and 'views' in spec]
    batch, before = given[0]
    assert before and batch.each['views'].shape in [tuple(spec.shape) for spec in views]
