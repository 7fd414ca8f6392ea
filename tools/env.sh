# Source this in bash, from the root of the repository, once tools/setup.sh has
# run: the environment's programs come first.
VENV=${VENV:-$PWD/.venv}
if [ ! -x "$VENV/bin/python" ]; then
    echo "There is no environment in $VENV; run tools/setup.sh first." >&2
    return 1
fi
export VENV PATH=$VENV/bin:$PATH
export LANG=C.UTF-8 LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
