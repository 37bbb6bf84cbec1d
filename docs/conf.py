"""Sphinx's settings of the documentation site, which `make docs` builds.

The source folder is the root of the repository, so that README.md, CONTRIBUTING.md and the pages of docs/ are the same files on
GitHub and on the site, with the same links. The pages of docs/api are made from the docstrings of the package.
"""

import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from mmcv.transforms.utils import cache_randomness
from sphinx.application import Sphinx

from mmseg_instancenet import __version__

project = 'mmseg_instancenet'
author = 'The mmseg_instancenet authors'
project_copyright = f'{author}, Apache-2.0'
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
root_doc = 'README'
include_patterns = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'configs/README.md', 'docs/**']

myst_enable_extensions = ['dollarmath']
myst_fence_as_directive = ['math']  # GitHub's ```math
myst_heading_anchors = 3  # GitHub's anchors of headings, which links between pages use

autodoc_inherit_docstrings = False  # those of OpenMMLab's methods are in OpenMMLab's documentation
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
add_module_names = False
python_maximum_signature_line_length = 90  # longer ones have one argument a line
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list, as arguments are

html_theme = 'furo'
html_title = f'mmseg_instancenet {version}'
html_math_renderer = 'mathml'
html_static_path = ['site.css']
html_css_files = ['site.css']
html_show_sphinx = False

# README.md is the first page; this is added below it on the site alone.
NAVIGATION = """
```{toctree}
:hidden:
:caption: Use
Get started <self>
docs/your_images
docs/annotations
docs/predict
docs/export
docs/large_images
docs/nuclei
docs/people
docs/mmseg_configs
docs/environments
docs/faq
```

```{toctree}
:hidden:
:caption: Methods and results
docs/methods
docs/choosing
docs/evaluation
docs/ablations
docs/error_budget
docs/watching
docs/report
docs/performance
docs/reliability
docs/results
configs/README
```

```{toctree}
:hidden:
:caption: Every option
docs/components
docs/api/apis
docs/api/segmentors
docs/api/losses
docs/api/groupers
docs/api/scorers
docs/api/datasets
docs/api/transforms
docs/api/metrics
docs/api/engine
docs/api/visualization
docs/api/outputs
docs/api/functions
```

```{toctree}
:hidden:
:caption: Development
CONTRIBUTING
SECURITY
docs/design
CHANGELOG
```
"""


# Napoleon reads the methods of a class. Those of a transform that mmcv's decorator wraps refuse that, outside of an instance.
_bind = cache_randomness.__get__
cache_randomness.__get__ = lambda method, obj, owner: method if obj is None else _bind(method, obj, owner)


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += NAVIGATION


def skip_fields(app: Sphinx, kind: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leaves out the fields of named tuples, which the docstring of the class explains."""
    return True if type(member).__name__ == '_tuplegetter' else None


def write_inline_formula(translator, node) -> None:
    translator.body.append(convert(node.astext()))
    raise SkipNode  # its text is not written again


def write_formula(translator, node) -> None:
    """Writes a formula. Lines with & outside of an environment are aligned there, as Sphinx's other renderers do it."""
    # latex2mathml has align*, which is no environment of a formula in LaTeX and on GitHub, in place of aligned.
    text = node.astext().replace('{aligned}', '{align*}')
    if '&' in text and '\\begin' not in text:
        text = rf'\begin{{align*}}{text}\end{{align*}}'
    translator.body.append(f'<div class="math">{convert(text, display="block")}</div>')
    raise SkipNode


def copy_first_page(app: Sphinx, error: Exception | None) -> None:
    """Servers look for index.html in a folder."""
    if error is None and app.builder.name == 'html':
        shutil.copy(Path(app.outdir, 'README.html'), Path(app.outdir, 'index.html'))


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer('mathml', (write_inline_formula, None), (write_formula, None))
    app.connect('source-read', add_navigation)
    app.connect('autodoc-skip-member', skip_fields)
    app.connect('build-finished', copy_first_page)
