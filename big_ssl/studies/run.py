"""One run of a study: a command in a folder of its own, and how far it has come."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from big_ssl import config as config_lib
from big_ssl import earlier_configs, main
from big_ssl.errors import InputError
from big_ssl.files import CONFIG, DIVERGED, RESULT
from big_ssl.studies import settings

RUNS = 'runs'
DONE, HAS_DIVERGED, BEGUN, WAITING = 'done', 'diverged', 'begun', 'waiting'

OF_JUDGED = config_lib.OF_IMAGES + config_lib.OF_CLASSIFIER


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `big_ssl.main`.

    Attributes:
      name: unique in the study, also its folder below `STUDY/runs/`.
      file: name of the config, and :VARIANT.
      settings: what differs from it.
      begins_with: the name of the run whose weights it begins with, if any.
      facts: what it stands for in the study: `role`, `method`, `seed` …
    """

    name: str
    file: str
    settings: Mapping[str, Any]
    begins_with: str | None
    facts: Mapping[str, Any]

    def folder(self, study: epath.Path) -> epath.Path:
        return _place(study, self.name)

    def arguments(self, study: epath.Path) -> list[str]:
        """Of `python`, from the folder that holds `configs/`."""
        name, _, variant = self.file.partition(':')
        begins = {'init_from': str(_place(study, self.begins_with))} if self.begins_with else {}
        return [
            '-m',
            'big_ssl.main',
            f'--config={settings.CONFIGS / name}.py{f":{variant}" if variant else ""}',
            f'--workdir={self.folder(study)}',
            *settings.flags_of({**self.settings, **begins}),
        ]

    def check(self, study: epath.Path) -> main.Command:
        """Its command line, read; raises InputError where it would."""
        try:
            return main.parse(['main', *self.arguments(study)[2:]])
        except InputError as error:
            raise InputError(f'run {self.name}: {error}') from None

    def state(self, study: epath.Path) -> str:
        """How far it is.

        Raises:
          InputError: its folder holds a run with other settings.
        """
        folder = self.folder(study)
        if not (folder / CONFIG).exists():
            return WAITING
        try:
            theirs = dict(json.loads((folder / CONFIG).read_text()))
        except (TypeError, ValueError):
            raise InputError(f'{folder / CONFIG}: cannot be read; delete {folder}') from None
        self._check_same(study, theirs)
        if (folder / RESULT).exists():
            return DONE
        return HAS_DIVERGED if (folder / DIVERGED).exists() else BEGUN

    def _check_same(self, study: epath.Path, theirs: dict[str, Any]) -> None:
        config, _, given = self.check(study)
        earlier_configs.go_on(config, theirs, given)
        theirs = earlier_configs.up_to_date(theirs)
        ours = json.loads(json.dumps(config.to_dict()))
        trains = config.task in config_lib.TRAINING
        of_encoder = config_lib.of_encoder(config.model.name)
        open_keys = config_lib.open_keys(config.model.name)
        for key in config_lib.keys(config):
            if key.startswith('compute.'):  # changes how, not what
                continue
            if key.startswith('method.') and not trains:
                continue
            taken_over = key in of_encoder or (not trains and key in OF_JUDGED)
            taken_over = taken_over and bool(config.init_from) and key not in given
            a, b = (_value(some, key) for some in (ours, theirs))
            taken_over |= key in open_keys and a == 'auto'
            if key == 'init_from' and self.begins_with and b:  # the study's folder may have moved
                a, b = (path.split(f'/{RUNS}/')[-1] for path in (a, b))
            if a != b and not taken_over:
                raise InputError(
                    f'{self.folder(study)}: was made with {key}={b}, the study says {a}; delete '
                    'the folder to make it again, or choose another --workdir'
                )


def _place(study: epath.Path, name: str) -> epath.Path:
    """Where a run is, also if it was begun under a former name."""
    former = study / RUNS / earlier_configs.former_run(name)
    return former if (former / CONFIG).exists() else study / RUNS / name


def _value(nested: Any, key: str) -> Any:
    for part in key.split('.'):
        nested = nested.get(part) if isinstance(nested, dict) else None
    return nested
