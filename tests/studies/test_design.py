import json
import runpy
import shlex
from pathlib import Path

import pytest
from etils import epath

from big_ssl import config as config_lib
from big_ssl import study
from big_ssl.errors import InputError
from big_ssl.studies import design

ROOT = Path(__file__).parent.parent.parent
STUDIES = sorted((ROOT / 'configs/studies').glob('*.py'))
HERE = epath.Path('/studies/s')
NATURAL = {'natural_manifest': '/data/natural.csv'}


def load(name, variant='', **settings):
    config = runpy.run_path(str(ROOT / f'configs/studies/{name}.py'))['get_config'](variant)
    config.update_from_flattened_dict(settings)
    return config


def runs_of(name, variant='', **settings):
    return design.runs_of(load(name, variant, **settings), frozenset(settings))


def by_name(runs):
    return {run.name: run for run in runs}


pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


@pytest.mark.parametrize('variant', ['', 'demo'])
@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_every_run_is_a_command_that_main_reads(path, variant):
    runs = runs_of(path.stem, variant, **({} if variant else NATURAL))
    seen = set()
    for run in runs:
        assert run.name not in seen
        assert run.begins_with is None or run.begins_with in seen
        seen.add(run.name)
        command = run.check(HERE)
        assert command.workdir == f'/studies/s/runs/{run.name}'
        if run.begins_with:
            assert command.config.init_from == f'/studies/s/runs/{run.begins_with}'


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_docstrings_name_their_command_and_unknown_variants_are_refused(path):
    text = path.read_text().split('"""')[1]
    assert f'--config=configs/studies/{path.name}' in text and ':demo' in text
    with pytest.raises(InputError, match="unknown variant 'demmo'"):
        load(path.stem, 'demmo')


def test_methods_share_their_beginnings():
    runs = by_name(runs_of('derm', seeds=(0, 1), **NATURAL))
    pretrained = {name for name in runs if name.startswith('pretrain/')}
    chains = [
        'supervised', 'simclr_natural', 'simclr', 'simclr_natural-simclr',
        'simclr_natural-simclr-simclr_on', 'simclr_natural-simclr-micle',
    ]  # fmt: skip
    assert pretrained == {f'pretrain/{chain}/seed{s}' for chain in chains for s in (0, 1)}
    micle = runs['finetune/micle/seed1']
    assert micle.begins_with == 'pretrain/simclr_natural-simclr-micle/seed1'
    before = runs[micle.begins_with].begins_with
    assert before == 'pretrain/simclr_natural-simclr/seed1'
    assert runs[before].begins_with == 'pretrain/simclr_natural/seed1'
    assert runs['finetune/random/seed0'].begins_with is None
    assert runs['pretrain/simclr_natural/seed0'].settings['dataset.manifest'] == '/data/natural.csv'
    assert 'dataset.manifest' not in runs['pretrain/simclr/seed0'].settings


def test_every_and_stage_settings():
    """What is set for all stages reaches all; a stage's own value wins; durations as a whole."""
    settings = {
        'every.dataset.manifest': '/data/derm.csv', 'every.model.depth': 18,
        'every.image_size': 224, 'every.total_steps': 70, 'simclr.total_epochs': 3,
        'micle.image_size': 64, **NATURAL,
    }  # fmt: skip
    runs = by_name(runs_of('derm', **settings))
    configs = {name: run.check(HERE).config for name, run in runs.items()}
    for name, config in configs.items():
        assert config.model.depth == 18
        natural = name.startswith('pretrain/') and name.split('/')[1] in (
            'supervised',
            'simclr_natural',
        )
        assert config.dataset.manifest == ('/data/natural.csv' if natural else '/data/derm.csv')
    assert configs['finetune/random/seed0'].total_steps == 70
    assert configs['finetune/random/seed0'].image_size == 224  # given, though it is the default
    simclr = configs['pretrain/simclr/seed0']
    assert (simclr.total_steps, simclr.total_epochs) == (None, 3)
    assert configs['pretrain/simclr_natural-simclr-micle/seed2'].image_size == 64
    assert [configs[f'finetune/random/seed{s}'].seed for s in (0, 1, 2)] == [0, 1, 2]


def test_the_command_line_wins_over_the_files_stage():
    runs = by_name(runs_of('derm', 'demo', **{'every.total_epochs': 2, 'micle.total_steps': 9}))
    durations = {
        name: (run.check(HERE).config.total_steps, run.check(HERE).config.total_epochs)
        for name, run in runs.items()
        if run.facts['role'] in ('pre-training', 'fine-tuning')
    }
    assert durations['pretrain/simclr_natural-simclr-micle/seed0'] == (9, None)
    assert durations['pretrain/supervised/seed0'] == durations['finetune/micle/seed1'] == (None, 2)


def test_label_fractions():
    settings = {'seeds': (3,), 'label_draws': (0, 1), 'label_fractions': (0.1, 1.0), **NATURAL}
    runs = [run for run in runs_of('label_efficiency', **settings) if 'fraction' in run.facts]
    micle = [run for run in runs if run.facts['method'] == 'micle']
    assert [run.name for run in micle] == [
        'finetune/micle/labels0.1-draw0/seed3', 'finetune/micle/labels0.1-draw1/seed3',
        'finetune/micle/seed3',
    ]  # fmt: skip
    configs = [run.check(HERE).config for run in micle]
    assert [(c.label_fraction, c.label_seed) for c in configs] == [
        (0.1, 3000),
        (0.1, 3001),
        (1.0, 0),
    ]
    assert len({run.begins_with for run in micle}) == 1
    assert len({config_lib.steps(c, 'total', epoch=n) for c, n in zip(configs, (10, 10, 99))}) == 1
    for length in (
        {'finetune.total_epochs': 3, 'finetune.total_steps': None},
        {'finetune.total_epochs': 3},
        {'every.total_epochs': 3},
    ):
        with pytest.raises(InputError, match='length of fine-tuning must be the same'):
            runs_of('label_efficiency', **length, **NATURAL)


def test_the_papers_networks():
    runs = by_name(runs_of('architectures', seeds=(0,), **NATURAL))
    found = {
        (run.check(HERE).config.model.depth, run.check(HERE).config.model.width)
        for run in runs.values()
    }
    assert found == {(50, 1.0), (50, 4.0), (152, 2.0)}
    assert runs['finetune/micle/resnet152x2/seed0'].begins_with == (
        'pretrain/simclr_natural-simclr-micle/resnet152x2/seed0'
    )


def test_networks_of_several_backbones():
    """By their names or keys; keys of another backbone reach none of their runs."""
    networks = ('vit_s16', {'depth': 2, 'name': 'vit', 'width': 64}, 'bit50x1')
    stem = {'every.model.stem': 'small_images', 'every.image_size': 64}
    runs = by_name(runs_of('architectures', seeds=(0,), networks=networks, **stem, **NATURAL))
    models = {}
    for run in runs.values():
        models.setdefault(run.facts['network'], []).append(run.check(HERE).config.model)
    assert {name: {str(model) for model in found} for name, found in models.items()} == {
        name: {str(found[0])} for name, found in models.items()
    }
    assert list(models) == ['vit_s16', 'vit-depth2-width64', 'bit50x1']
    vit, tiny, bit = (found[0] for found in models.values())
    assert (vit.name, vit.depth, vit.width, vit.patch) == ('vit', 12, 384, 16)
    assert (tiny.name, tiny.depth, tiny.width, tiny.patch) == ('vit', 2, 64, 16)
    assert (bit.name, bit.depth, bit.width) == ('bit', 50, 1.0) and 'stem' not in bit


def test_a_study_whose_networks_were_pairs_goes_on_in_its_folders(tmp_path):
    study = epath.Path(tmp_path)
    runs = by_name(runs_of('architectures', seeds=(0,), networks=((50, 1.0), (50, 4.0)), **NATURAL))
    one, other = (
        runs[f'pretrain/simclr_natural/{name}/seed0'] for name in ('resnet50', 'resnet50x4')
    )
    former = study / 'runs/pretrain/simclr_natural/r50-4x/seed0'
    former.mkdir(parents=True)
    config = other.check(study).config
    config_lib.close(config)
    (former / 'config.json').write_text(json.dumps(config.to_dict()))
    assert other.folder(study) == former and other.state(study) == 'begun'
    assert one.folder(study) == study / 'runs/pretrain/simclr_natural/resnet50/seed0'
    finetuned = runs['finetune/simclr_natural/resnet50x4/seed0'].arguments(study)
    assert f'--config.init_from={former}' in finetuned


def test_the_search_does_not_look_at_test():
    runs = runs_of('finetune_search')
    configs = [run.check(HERE).config for run in runs]
    assert len(runs) == 28
    rates = sorted({c.optimizer.learning_rate for c in configs})
    expected = [10**-3.5, 1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1, 10**-0.5]
    assert rates == pytest.approx(expected, rel=1e-3)
    assert {c.optimizer.weight_decay for c in configs} == {0, 1e-5, 1e-4, 1e-3}
    assert {c.splits.evaluate for c in configs} == {'val'}


def test_several_finetunings_of_one_pretraining():
    runs = by_name(runs_of('derm', finetunings=2, seeds=(3,), **NATURAL))
    one, other = (runs[f'finetune/simclr/seed3-{i}'] for i in (0, 1))
    assert one.begins_with == other.begins_with
    assert one.settings['seed'] != other.settings['seed']
    assert one.facts['seed'] == other.facts['seed'] == 3


def test_another_clinic():
    settings = {
        'elsewhere_manifest': '/data/there.csv', 'elsewhere.labels.map': '/data/map.csv',
        'subgroups': ('sex',), 'seeds': (0,), **NATURAL,
    }  # fmt: skip
    runs = by_name(runs_of('shift', **settings))
    elsewhere = runs['elsewhere/micle/seed0']
    config = elsewhere.check(HERE).config
    assert elsewhere.begins_with == 'finetune/micle/seed0' and config.task == 'evaluate'
    assert config.dataset.manifest == '/data/there.csv' and config.labels.map == '/data/map.csv'
    assert config.subgroups == ('sex',)


@pytest.mark.parametrize('manifest', ['elsewhere_manifest', 'elsewhere.dataset.manifest'])
def test_what_describes_a_table_does_not_reach_another(manifest):
    settings = {
        'every.dataset.columns.label': 'dx', 'every.labels.kind': 'multi', 'every.splits.val': 'v',
        'every.image_size': 32, manifest: '/data/there.csv', 'elsewhere.subgroups': (),
        'subgroups': ('sex',), 'supervised.labels.other': 'ignore', **NATURAL,
    }  # fmt: skip
    runs = by_name(runs_of('derm', **settings))
    for name in ('pretrain/supervised/seed0', 'elsewhere/random/seed0', 'finetune/random/seed0'):
        found, own = runs[name].settings, name.startswith('finetune')
        for key in ('dataset.columns.label', 'labels.kind', 'splits.val'):
            assert (key in found) == own
        assert found['image_size'] == 32
    assert runs['pretrain/supervised/seed0'].settings['labels.other'] == 'ignore'
    assert runs['elsewhere/random/seed0'].settings['dataset.manifest'] == '/data/there.csv'
    assert runs['elsewhere/random/seed0'].settings['subgroups'] == ()
    assert runs['finetune/random/seed0'].settings['subgroups'] == ('sex',)


def test_the_splits_of_the_study_are_judged():
    evaluated = {}
    for shift, own in (('', 'test'), ('there', 'test'), ('val', 'test'), ('there', 'x+there')):
        settings = {'shift': shift, 'finetune.splits.evaluate': own, **NATURAL}
        run = by_name(runs_of('derm', **settings))['finetune/random/seed0']
        evaluated[shift, own] = run.check(HERE).config.splits.evaluate
    assert list(evaluated.values()) == ['test', 'test+there', 'test', 'x+there+test']


def test_a_demo_on_ones_own_images():
    """No other clinic and no natural images but those that are given."""
    settings = {'every.dataset.manifest': '/data/derm.csv', 'baseline': 'random', 'comparisons': ()}
    settings['only'] = ()
    runs = runs_of('derm', 'demo', **settings)
    assert {run.facts['role'] for run in runs} == {'pre-training', 'fine-tuning', 'embedding'}
    assert {run.facts.get('method', 'random') for run in runs} == {'random', 'simclr'}
    there = runs_of('derm', 'demo', elsewhere_manifest='/data/there.csv', **settings)
    (run,) = (run for run in there if run.name == 'elsewhere/random/seed1')
    config = run.check(HERE).config
    assert (config.dataset.manifest, config.splits.evaluate) == ('/data/there.csv', 'all')


def test_micle_differs_from_its_control_in_pairs_alone():
    runs = by_name(runs_of('derm', **NATURAL))
    micle, control = (
        runs[f'pretrain/simclr_natural-simclr-{stage}/seed0'].check(HERE).config.to_dict()
        for stage in ('micle', 'simclr_on')
    )
    assert config_lib.differences(micle, control) == ['pairing=case (augment there)']


def test_without_natural_images_the_methods_that_need_them_are_left_out():
    with pytest.raises(InputError, match="baseline 'supervised' is not among the methods"):
        runs_of('derm')
    runs = runs_of('derm', baseline='random', comparisons=())
    assert {run.facts['method'] for run in runs if 'fraction' in run.facts} == {'random', 'simclr'}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'only': ('micel',)}, "'micel' is none of the methods, did you mean micle"),
        ({'baseline': 'nothing'}, "'nothing' is none of the methods"),
        ({'seeds': ()}, 'seeds must name at least one value'),
        ({'seeds': (0, 1000), 'finetunings': 2}, 'seeds must lie within 1000'),
        ({'label_draws': (-1,)}, 'label_draws: -1 is none of whole numbers below 1000'),
        ({'margin': float('nan')}, 'margin=nan must be 0 or more'),
        ({'methods': (('mine',),)}, r"methods: \('mine',\) is none of"),
        ({'networks': (50,)}, 'networks: 50 is none of resnet152x2, vit_s16'),
        ({'networks': ('resnet50', 'resnet50')}, 'must name each value once'),
        ({'comparisons': (1,)}, r'comparisons: 1 is none of'),
        ({'comparisons': (('micle', 'micle'),)}, 'not a pair of methods'),
        ({'learning_rates': ('a',), 'weight_decays': (0,)}, "learning_rates: 'a' is none of"),
        ({'learning_rates': (0.1, 0.1004), 'weight_decays': (0,)}, 'within three digits'),
        ({'only': (1,)}, 'only: 1 is none of names in quotes'),
        ({'subgroups': (1,)}, 'subgroups: 1 is none of'),
        ({'natural_stages': ('x',)}, "natural_stages: 'x' is no stage"),
        ({'compared': ('top1', 'top1')}, 'compared=.* must name each value once'),
        ({'label_fractions': (0.1, 0.5)}, 'must hold 1.0'),
        ({'label_fractions': (0.1, 1.0), 'compared': ()}, 'need a figure'),
        ({'label_fractions': (0.1,), 'shift': 'val'}, 'val is reduced like the labels'),
        ({'finetune.label_fraction': 0.3}, 'give --config.label_fractions'),
        ({'every.seed': 3}, 'every.seed is an axis of the study: give --config.seeds'),
        ({'finetune.splits.evaluate': 'all'}, 'name the splits to be compared'),
        ({'seeds': (1, 1)}, 'seeds=.* must name each value once'),
        ({'label_fractions': (0.0, 1.0)}, 'label_fractions: 0.0 is none of above 0'),
        ({'comparisons': (('micle', 'mickle'),)}, 'not a pair of methods'),
        ({'learning_rates': (0.1,)}, 'set both'),
        ({'methods': (('mine', ('unknown',)),), 'baseline': ''}, "'unknown' is no stage"),
        ({'finetunings': 0}, 'must be 1 or more'),
        ({'shift': 'all'}, "'all' is no split"),
        ({'embedding_map': 'tsne'}, 'embedding_map=tsne is not one of'),
        ({'embedding_map': 'umap'}, 'needs the package umap-learn'),
        ({'compared': ('top2',)}, "'top2' is not one of .*, did you mean top1"),
    ],
)
def test_wrong_settings(settings, message):
    if 'methods' in settings:
        settings = settings | {'comparisons': ()}
    with pytest.raises(InputError, match=message):
        runs_of('derm', **settings, **NATURAL)


def test_list_prints_one_command_a_run_by_level(capsys, tmp_path):
    arguments = [
        'study', '--config=configs/studies/derm.py:demo', f'--workdir={tmp_path}/a b', '--list'
    ]  # fmt: skip
    assert study.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in lines]
    assert all(command[:3] == ['python', '-m', 'big_ssl.main'] for command in commands)
    workdirs = [command[4] for command in commands]
    assert len(set(workdirs)) == len(workdirs) and not list(tmp_path.iterdir())
    by_level = []
    for level in range(6):
        assert study.main([*arguments, f'--level={level}']) == 0
        by_level += capsys.readouterr().out.splitlines()
    assert sorted(by_level) == sorted(lines)
    done = set()
    for line in by_level:
        flags = dict(flag[2:].split('=', 1) for flag in shlex.split(line)[3:])
        assert flags.get('config.init_from') in {None, *done}
        done.add(flags['workdir'])


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--config.simclr.optimizer.learnig_rate=1', 'config.simclr.optimizer.learning_rate?'),
        ('--config.every.model.depth=19', 'model.depth=19 is not one of'),
        ('--config.seeds=many', 'seeds'),
        ('--colect', 'unknown flag --colect, did you mean collect?'),
        ('--config=configs/studies/none.py', 'none.py'),
    ],
)
def test_wrong_flags(capsys, flag, message, tmp_path):
    config = [] if flag.startswith('--config=') else ['--config=configs/studies/derm.py:demo']
    assert study.main(['study', *config, f'--workdir={tmp_path}/s', flag]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith('error: ') and message in line and not captured.out
    assert not list(tmp_path.iterdir())


def test_help_lists_the_keys(capsys):
    assert study.main(['study', '--help']) == 0
    out = capsys.readouterr().out
    for expected in ('--list', '--collect', '--config.seeds=(0, 1, 2)', '--config.margin=0.02'):
        assert expected in out
    assert '--config.every.model.depth' not in out
