from .background_visualizer import BackgroundVisualizer
from .crops import box_around, crop_window, draw_crop
from .curves import OKABE_ITO, curve_figure, plot_curves
from .drawing import (
    class_map_to_color,
    draw_instances,
    draw_scores,
    embeddings_to_color,
    panel,
    pixels_for_display,
    read_for_display,
)
from .instance_visualizer import InstanceLocalVisualizer
from .output_paths import OutputPaths, image_folder_of
from .panels import draw_panel
from .training_sample import draw_sample

__all__ = [
    'OKABE_ITO',
    'BackgroundVisualizer',
    'InstanceLocalVisualizer',
    'OutputPaths',
    'box_around',
    'class_map_to_color',
    'crop_window',
    'curve_figure',
    'embeddings_to_color',
    'draw_crop',
    'draw_instances',
    'draw_panel',
    'draw_scores',
    'draw_sample',
    'image_folder_of',
    'panel',
    'pixels_for_display',
    'plot_curves',
    'read_for_display',
]
