"""Arguments that the command-line tools share."""

import argparse
from pathlib import Path

import pytest

from mmseg_instancenet.apis.command_line import add_common_arguments, add_launcher, load_config

CONFIG = Path(__file__).parents[2] / 'configs/instancenet_digits.py'


def arguments(*options):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_common_arguments(parser)
    add_launcher(parser)
    return parser.parse_args([str(CONFIG), *options])


@pytest.mark.parametrize('count', [2, 8])
def test_several_processes_without_a_launcher_are_refused(monkeypatch, count):
    """Each would train the whole model, and write its checkpoints over those of the others."""
    for rank in range(count):
        monkeypatch.setenv('WORLD_SIZE', str(count))
        monkeypatch.setenv('RANK', str(rank))
        with pytest.raises(SystemExit, match=f'torchrun started {count} processes.* --launcher pytorch'):
            load_config(arguments())


@pytest.mark.parametrize('variables', [{}, {'RANK': '0', 'WORLD_SIZE': '1'}, {'WORLD_SIZE': '4'}])
def test_one_process_needs_no_launcher(monkeypatch, variables):
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_config(arguments('--work-dir', 'here')).work_dir == 'here'


def test_slurm_starts_its_processes_itself(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    config = load_config(arguments('--launcher', 'slurm'))
    assert config.launcher == 'slurm'
    # Statistics of batch norm are those of all processes; tests/faults/processes.py compares validation and checkpoint.
    assert config.default_hooks.sync_buffers.type == 'AverageBuffersHook'


def test_one_process_has_nothing_to_average():
    assert 'sync_buffers' not in load_config(arguments()).default_hooks
