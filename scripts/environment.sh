# Sourced by the scripts of this project. Sets ROOT, the repository, and VENV_PYTHON, and offers
#     environment [extra ...]
# which makes or mends ROOT/.venv, with peercollab and these extras at the versions of
# constraints.txt, and returns at once where nothing has changed. The variable PYTHON names the
# interpreter to build on; without it the first of python3.11, 3.12, 3.13 and python3 that will do.
# PEERCOLLAB_PYTHON names one that has everything already: then nothing is made or installed.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
VENV_PYTHON=${PEERCOLLAB_PYTHON:-$VENV/bin/python}

environment() {
    local extra state
    [ -z "${PEERCOLLAB_PYTHON:-}" ] || return 0
    # Pip answers Ctrl-C by an ordinary exit; without a trap the script would go on after it.
    trap 'exit 130' INT
    _usable || _make
    state=$({ cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" && "$VENV_PYTHON" -VV && echo "$ROOT"; } | cksum)
    for extra in base "$@"; do
        if [ "$(cat "$VENV/installed-$extra" 2>/dev/null)" != "$state" ]; then
            _install "$@"
            break
        fi
    done
    for extra in base "$@"; do
        echo "$state" >"$VENV/installed-$extra"
    done
    trap - INT
}

# Whole, runnable, and of the same minor version as PYTHON if that is set. The file `unfinished` is
# what an interrupted installation leaves: pip would take its half-copied packages for whole ones.
_usable() {
    [ ! -e "$VENV/unfinished" ] && _is_fit "$VENV_PYTHON" pip &&
        { [ -z "${PYTHON:-}" ] || [ "$(_minor "$PYTHON")" = "$(_minor "$VENV_PYTHON")" ]; }
}

_is_fit() { # _is_fit PYTHON MODULES: new enough, and with these modules
    "$1" -c "import sys, $2; sys.exit(sys.version_info < (3, 11))" 2>/dev/null
}

_minor() {
    "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null
}

_make() {
    local python
    python=$(_find_python) || exit 2
    echo "Making $VENV with $("$python" -V)."
    rm -rf "$VENV"
    mkdir "$VENV"
    : >"$VENV/unfinished"
    "$python" -m venv "$VENV"
    rm "$VENV/unfinished"
}

_find_python() {
    local python
    for python in python3.11 python3.12 python3.13 python3; do
        python=${PYTHON:-$python}
        if _is_fit "$python" ensurepip,venv; then
            echo "$python"
            return
        fi
    done
    echo "No Python 3.11 or newer with its venv module${PYTHON:+ at PYTHON=$PYTHON}." >&2
    echo "Install one (Debian, Ubuntu: also python3-venv), or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

_install() {
    local status=0 torch extras
    extras=$(IFS=, && echo "${*:+[$*]}")
    torch=$(grep '^torch==' "$ROOT/constraints.txt")
    echo "Installing peercollab$extras (minutes the first time, most of them for PyTorch)."
    : >"$VENV/unfinished"
    (cd "$ROOT" && "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-input \
        -c constraints.txt "$torch" -e ".$extras") || status=$?
    rm "$VENV/unfinished"
    if [ "$status" -ne 0 ]; then
        echo "The installation failed; pip's reason is above. Run the command again once it is mended." >&2
        exit "$status"
    fi
}
