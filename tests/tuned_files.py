"""The json with tuned settings beside a checkpoint, as tools/tune.py writes it."""

from pathlib import Path

from mmseg_instancenet.apis.tuned_settings import TunedSettings, file_sha256, tuned_settings_path


def write_tuned(checkpoint: Path, settings: dict, grouper: str = 'CenterGrouping') -> Path:
    """Writes it; returns its path."""
    path = tuned_settings_path(checkpoint)
    TunedSettings(
        settings, grouper, 'accuracy_50', before=0.5, after=0.7, images=12, objects=30, date='2026-11-27',
        checkpoint_sha256=file_sha256(checkpoint),
    ).write(path)  # fmt: skip
    return path
