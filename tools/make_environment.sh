#!/usr/bin/env bash
# Builds a pinned environment:
#
#   bash tools/make_environment.sh                   # requirements/environment.txt in .venv
#   bash tools/make_environment.sh onedl             # requirements/environment-onedl.txt in .venv-onedl
#   PYTHON=python3.13 bash tools/make_environment.sh # to choose the interpreter
#
# Nothing is compiled. What pip prints goes to install.log in the environment's folder.
set -euo pipefail
cd "$(dirname "$0")/.."

stack=${1:-openmmlab}
suffix=$([ "$stack" = openmmlab ] || echo "-$stack")
venv=.venv$suffix
requirements=requirements/environment$suffix.txt

stop() {
  echo "make_environment: $*" >&2
  exit 1
}

is_supported_python() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_supported_python "$PYTHON" || stop "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1);" \
      "expected Python 3.10 to 3.14. Install one of them and set PYTHON to it."
    echo "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if is_supported_python "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  stop "no supported Python found: python3 is $(python3 --version 2>&1 | head -n 1); expected Python 3.10 to 3.14." \
    "Install one of them (Debian, Ubuntu: apt install python3 python3-venv)."
}

run() { # in the environment's Python, its output into the log, whose end is shown if it fails
  "$venv/bin/python" "$@" >>"$log" 2>&1 && return
  tail -n 20 "$log" >&2
  stop "python $1 $2 .. failed; the end of $log is above."
}

run_pip() {
  run -m pip --disable-pip-version-check "$@"
}

[ -f "$requirements" ] || stop "STACK=$stack: expected openmmlab, onedl or oldest; there is no $requirements."
python=$(choose_python)
without_dependencies=requirements/environment$suffix-without-dependencies.txt
inputs_hash=$(cat requirements/*.txt tools/make_environment.sh setup.py pyproject.toml | cksum | cut -d' ' -f1)
stamp=$venv/complete-$inputs_hash
has_wanted_python() { # whichever it has, unless PYTHON asks for one
  [ -z "${PYTHON:-}" ] || [ "$("$venv/bin/python" --version)" = "$("$python" --version)" ]
}
if [ -f "$stamp" ] && has_wanted_python; then
  exit 0
fi

SECONDS=0
log=$venv/install.log
# From nothing: packages of an older list that stayed would be found before their successors (mmcv beside mmcv-lite).
"$python" -m venv --clear "$venv" || stop "$("$python" --version) cannot make a virtual environment. Install its venv module" \
  "(Debian, Ubuntu: apt install python3-venv)."
: >"$log"
echo "1/3 $("$venv/bin/python" --version) in $venv; pip's output goes to $log"
echo "2/3 installing $requirements (3 GB to download where pip has not cached them)"
run_pip install -r "$requirements" -r requirements/tests.txt
if [ -f "$without_dependencies" ]; then
  run_pip install --no-deps -r "$without_dependencies"
fi
if ! "$venv/bin/python" -c 'import cv2' >>"$log" 2>&1; then
  # opencv-python needs libraries of a desktop, which servers often lack; its variant without windows is sufficient.
  version=$("$venv/bin/python" -c 'from importlib import metadata; print(metadata.version("opencv-python"))')
  echo "    opencv-python does not load here (see $log): taking opencv-python-headless"
  run_pip uninstall -y opencv-python
  run_pip install --no-deps "opencv-python-headless==$version"
fi
run_pip install --no-deps -e .
run -c 'import mmseg_instancenet, mmcv.ops, mmdet.models, mmseg.models'
touch "$stamp"
echo "3/3 environment ready after $SECONDS s"
