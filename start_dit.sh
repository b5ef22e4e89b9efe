#!/usr/bin/env bash
# The DiT group alone: prints latents per second and step times until Ctrl-C.
#   bash start_dit.sh NUM_GPUS_DIT [MODEL_PATH] [flags]     flags: see "python -m pipeline dit --help"
#   bash start_dit.sh 2 models/stage4 --ray-address 10.0.0.1:6379     in a cluster that runs already
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
dit=("$(command -v python || command -v python3)" -P -m pipeline dit)

usage='usage: bash start_dit.sh NUM_GPUS_DIT [MODEL_PATH] [flags]'
if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    printf 'bash start_dit.sh NUM_GPUS_DIT [MODEL_PATH] [flags]: the ranks and the weights first, then any flag of\n\n'
    exec "${dit[@]}" --help
fi
if (($# < 1)); then
    printf 'error: expected NUM_GPUS_DIT, as in: bash start_dit.sh 2 models/stage4; %s\n' "$usage" >&2
    exit 2
fi
if [[ ! "$1" =~ ^[1-9][0-9]{0,2}$ ]]; then
    printf 'error: NUM_GPUS_DIT: expected a whole number from 1 to 999, got %q; %s\n' "$1" "$usage" >&2
    exit 2
fi
flags=(--ranks "$1" "${@:2}")
twice='--ranks'
if (($# > 1)) && [[ "$2" != -* ]]; then
    flags=(--ranks "$1" "--model-path=$2" "${@:3}")
    twice='--ranks|--model-path'
fi
for flag in "${@:2}"; do
    if [[ "$flag" =~ ^($twice)(=.*)?$ ]]; then
        printf 'error: %s is said twice: expected it first, as in: bash start_dit.sh 2 models/stage4\n' "${BASH_REMATCH[1]}" >&2
        exit 2
    fi
done
exec "${dit[@]}" "${flags[@]}"
