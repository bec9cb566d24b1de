#!/bin/sh
# Runs every benchmark at its full size into benchmarks/results; more options go to all of them, e.g. --work /scratch.
# PYTHON=.venv/bin/python benchmarks/run_all.sh
set -eu
here=$(dirname "$0")
run() {
    name=$1
    shift
    "${PYTHON:-python}" "$here/$name.py" "$@"
}
for name in tokenizing second_start memory load loader; do
    run "$name" "$@"
done
for workload in short intents long; do
    run classification_step --workload "$workload" "$@"
done
for task in question_answering multiple_choice token_classification translation; do
    run task_training --task "$task" "$@"
done
for name in lightning_overhead prediction startup help_time \
    text_preparation resume masked_lm_step domain_adaptation causal_lm_step chats_step replies_step preferences_step \
    embeddings_step; do
    run "$name" "$@"
done
