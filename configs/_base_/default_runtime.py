# What every experiment shares.
default_scope = 'mmseg'  # everything of mmdet's carries its prefix
custom_imports = dict(imports=['mmseg_instancenet'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Whole files only; ctrl-C and SIGTERM save one too.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, save_best='coco/segm_mAP', max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    settings=dict(type='SettingsHook'),  # settings that train nothing or fail late stop at the start
    finite_loss=dict(type='FiniteLossHook'),  # a loss that is NaN stops the training before a checkpoint of it is saved
    plain_log=dict(type='PlainLogHook'),  # checkpoints that every torch loads with weights_only=True
    panels=dict(type='PanelHook', count=4),  # the first four images of each validation, for the backends below
    curves=dict(type='CurvesHook'),  # loss.png and metrics.png beside the log
)
custom_hooks = [dict(type='ClassCountHook'), dict(type='LoadReportHook')]
env_cfg = dict(
    cudnn_benchmark=False,  # images of many sizes
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]  # dict(type='TensorboardVisBackend') too: docs/watching.md
visualizer = dict(type='InstanceLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False

train_cfg = dict(type='ResumableEpochLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# Flips (and, in an experiment, scales) at test time: tools/test.py --tta.
tta_model = dict(type='EmbeddingTTAModel')
