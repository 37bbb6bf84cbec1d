from .background_visualizer import BackgroundVisualizer
from .crops import box_around, crop_window, draw_crop
from .curves import OKABE_ITO, curve_figure, plot_curves
from .drawing import (
    class_map_to_color,
    draw_instances,
    embeddings_to_color,
    panel,
    pixels_for_display,
    read_for_display,
)
from .output_paths import OutputPaths
from .panel_hook import PanelHook
from .training_sample import draw_sample

__all__ = [
    'OKABE_ITO',
    'BackgroundVisualizer',
    'OutputPaths',
    'PanelHook',
    'box_around',
    'class_map_to_color',
    'crop_window',
    'curve_figure',
    'embeddings_to_color',
    'draw_crop',
    'draw_instances',
    'draw_sample',
    'panel',
    'pixels_for_display',
    'plot_curves',
    'read_for_display',
]
