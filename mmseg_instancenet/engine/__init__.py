from .atomic_checkpoint_hook import AtomicCheckpointHook, CheckpointNotSavedError
from .average_buffers_hook import AverageBuffersHook
from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .boundary_phase_hook import BoundaryPhaseHook
from .checkpoint_files import damage, latest_whole_checkpoint
from .class_count_hook import ClassCountHook
from .cpu_distributed import CPUDistributedDataParallel
from .curves_hook import CurvesHook
from .finite_loss_hook import FiniteLossHook
from .freeze_hook import FreezeHook
from .load_report_hook import LoadReport, LoadReportHook, load_report
from .mixed_precision import prediction_type, use_mixed_precision
from .panel_hook import PanelHook
from .plain_log_hook import PlainLogHook
from .resumable_loops import ResumableEpochLoop, ResumableIterLoop, use_resumable_training
from .safe_checkpoint import load_weights_only, register_safe_loaders
from .settings_hook import SettingsHook, check_settings

__all__ = [
    'AtomicCheckpointHook',
    'AverageBuffersHook',
    'BFloat16OptimWrapper',
    'BoundaryPhaseHook',
    'CPUDistributedDataParallel',
    'CheckpointNotSavedError',
    'ClassCountHook',
    'CurvesHook',
    'FiniteLossHook',
    'FreezeHook',
    'LoadReport',
    'LoadReportHook',
    'PanelHook',
    'PlainLogHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'SettingsHook',
    'check_settings',
    'damage',
    'latest_whole_checkpoint',
    'load_report',
    'load_weights_only',
    'prediction_type',
    'register_safe_loaders',
    'use_mixed_precision',
    'use_resumable_training',
]
