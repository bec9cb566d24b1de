#!/bin/sh
# Runs every benchmark at its full size into benchmarks/results; more options go to all of them, e.g. --work /scratch.
# PYTHON=.venv/bin/python benchmarks/run_all.sh
set -eu
here=$(dirname "$0")
for name in tokenizing second_start memory loader classification_step \
    text_preparation masked_lm_step domain_adaptation causal_lm_step; do
    "${PYTHON:-python}" "$here/$name.py" "$@"
done
