#!/usr/bin/env bash
# Builds the pinned environment in .venv:  bash tools/make_environment.sh
#
# PYTHON=python3.10 bash tools/make_environment.sh   to choose the interpreter
#
# mmcv's operators are compiled from its source distribution (5 to 9 minutes on two cores). The wheel is kept
# under the user's cache folder by mmcv, torch and Python version, so that a second checkout does not compile.
set -euo pipefail
cd "$(dirname "$0")/.."

MMCV_VERSION=2.1.0
VENV=.venv

stop() {
  echo "make_environment: $*" >&2
  exit 1
}

is_supported_python() {
  "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_supported_python "$PYTHON" || stop "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1);" \
      "expected Python 3.9 to 3.12. Install one of them (e.g. apt install python3.11 python3.11-venv python3.11-dev) and set PYTHON to it."
    echo "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3 python3.12 python3.11 python3.10 python3.9; do
    if is_supported_python "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  stop "no supported Python found: python3 is $(python3 --version 2>&1 | head -n 1); expected Python 3.9 to 3.12." \
    "Install one of them (e.g. apt install python3.11 python3.11-venv python3.11-dev)."
}

check_compiler() {
  local compiler=${CXX:-c++}
  command -v "$compiler" >/dev/null || stop "no C++ compiler: '$compiler' not found, and mmcv's operators must be" \
    "compiled. Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)."
}

check_python_headers() {
  "$1" - <<'CHECK' || stop "the headers of $("$1" --version) are missing, and mmcv's operators must be compiled. \
Install them (Debian, Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel)."
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))
CHECK
}

# Prints "compiling mmcv: [12/77]" on one line from ninja's own counter; the whole output goes to a log.
show_progress() {
  local line
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$1"
    if [[ $line =~ \[([0-9]+)/([0-9]+)\] ]]; then
      if [ -t 1 ]; then
        printf '\rcompiling mmcv %s: %s of %s files' "$MMCV_VERSION" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
      elif ((BASH_REMATCH[1] % 10 == 0 || BASH_REMATCH[1] == BASH_REMATCH[2])); then
        echo "compiling mmcv $MMCV_VERSION: ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} files"
      fi
    fi
  done
  echo
}

build_mmcv_wheel() { # into folder $1
  local building log
  building=$(mktemp -d)
  log=$VENV/mmcv-build.log
  : >"$log"
  echo "compiling mmcv $MMCV_VERSION for torch $torch_version, once for this user (5 to 9 minutes on two cores; log: $log)"
  # No build isolation: the operators must be compiled against the torch of this environment.
  # No pip cache: pip names the wheel it built without saying for which torch.
  # No CUDA: nothing here uses mmcv's operators on a GPU, and an nvcc that does not match torch would stop the build.
  if ! CUDA_VISIBLE_DEVICES='' FORCE_CUDA=0 MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}" \
    "$VENV/bin/python" -m pip wheel -v --no-build-isolation --no-cache-dir --no-deps --no-binary mmcv \
    --wheel-dir "$building" "mmcv==$MMCV_VERSION" 2>&1 | show_progress "$log"; then
    tail -n 30 "$log" >&2
    stop "mmcv did not compile; the end of $log is above."
  fi
  mkdir -p "$1"
  mv "$building"/mmcv-*.whl "$1"
  rmdir "$building"
}

python=$(choose_python)
requirements_hash=$(cat requirements/environment.txt requirements/tests.txt tools/make_environment.sh setup.py | cksum | cut -d' ' -f1)
stamp=$VENV/complete-$requirements_hash
if [ -f "$stamp" ]; then
  exit 0
fi
rm -f "$VENV"/complete-*

if ! [ -x "$VENV/bin/python" ] || ! is_supported_python "$VENV/bin/python"; then
  "$python" -m venv "$VENV" || stop "$("$python" --version) cannot make a virtual environment. Install its venv module" \
    "(Debian, Ubuntu: apt install python3-venv)."
fi
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
echo "installing the pinned packages into $VENV (about 3 GB to download where torch is not in pip's cache)"
pip install --quiet 'setuptools<81' wheel ninja psutil
pip install --quiet -r requirements/environment.txt -r requirements/tests.txt

torch_version=$("$VENV/bin/python" -c 'import torch; print(torch.__version__)')
tag=$("$VENV/bin/python" -c 'import sys, platform; print(f"cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}")')
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/mmseg_instancenet/mmcv-$MMCV_VERSION-torch-$torch_version-$tag
if ! compgen -G "$wheels/mmcv-$MMCV_VERSION-*.whl" >/dev/null; then
  check_compiler
  check_python_headers "$VENV/bin/python"
  build_mmcv_wheel "$wheels"
fi
pip install --quiet --no-cache-dir "$wheels"/mmcv-"$MMCV_VERSION"-*.whl
pip install --quiet --no-build-isolation --no-deps -e .
"$VENV/bin/python" -c 'import mmcv.ops, mmdet, mmseg, mmseg_instancenet'
touch "$stamp"
echo "environment ready in $VENV"
