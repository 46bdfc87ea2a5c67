#!/usr/bin/env bash
# Peers on machines that Slurm lends: a Ray cluster for the time of one run.
#     sbatch --nodes=2 cluster/slurm.sh --data /shared/log.csv --out /shared/runs/mine --peers 4
# All options are those of `peercollab train`; what is asked of Slurm stands below, and sbatch's own
# options override it. Run it from the repository, whose .venv is on a file system of all nodes.
#SBATCH --job-name=peercollab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=08:00:00
set -euo pipefail

# symmetric-run calls `ray` and ends with `ray stop`, which takes every Ray of yours on these nodes
# with it: hence --exclusive.
venv=${VENV:-$PWD/.venv}
PATH=$venv/bin:$PATH
export PATH

# A token for this job alone. It is in the environment, which others on the nodes cannot read.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0
# How long the nodes wait for each other, in seconds; Ray's 30 are few when a file system is slow.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}
# A port of this job's own, among those that are nobody's by convention.
port=$((20000 + SLURM_JOB_ID % 10000))

gpus=()
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
    gpus=(--num-gpus "$SLURM_GPUS_ON_NODE")
fi

exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    --kill-on-bad-exit=0 \
    ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "${SLURM_CPUS_PER_TASK:-1}" ${gpus[@]+"${gpus[@]}"} --include-dashboard false \
    -- peercollab train --address "$head:$port" "$@"
